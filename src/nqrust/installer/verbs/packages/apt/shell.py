"""apt and dpkg in an undo script."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from nqrust.installer.verbs.packages.apt import dead_clusters
from nqrust.installer.verbs.packages.manager import ShellForm

_FUNCTIONS = r"""others_needing() { # packages: what purging them would remove besides
    # shellcheck disable=SC2086  # a list of names
    apt-get -s purge $1 | sed -nE 's/^(Purg|Remv) ([^ ]+) .*/\2/p' | while read -r package; do
        case " $1 " in
            *" ${package%%:*} "* | *" $package "* | *" ${package%%:*}:"*) ;;
            *) printf ' %s' "$package" ;;
        esac
    done
}
needed_by() { # packages that stay, packages: those of the second that the first need, at any depth
    dpkg-query -W -f '${Package}\t${Pre-Depends}, ${Depends}\t${Provides}\n' | awk -F '\t' -v start="$1" -v among="$2" '
        function names(field, into,   count, at, words, found) { # without versions and architectures
            gsub(/\([^)]*\)|\[[^]]*\]|:[a-z0-9]+/, "", field)
            count = split(field, words, /[ ,|]+/)
            found = 0
            for (at = 1; at <= count; at++) if (words[at] != "") into[++found] = words[at]
            return found
        }
        {
            needs[$1] = needs[$1] "," $2
            count = names($3, virtual)
            for (at = 1; at <= count; at++) providers[virtual[at]] = providers[virtual[at]] " " $1
        }
        END {
            last = split(start, queue, " ")
            for (at = 1; at <= last; at++) seen[queue[at]] = 1
            for (next_one = 1; next_one <= last; next_one++) {
                package = queue[next_one]
                sub(/:.*/, "", package)
                count = names(needs[package], wanted)
                for (at = 1; at <= count; at++) {
                    more = split(wanted[at] " " providers[wanted[at]], candidates, " ")
                    for (one = 1; one <= more; one++)
                        if (!seen[candidates[one]]++) queue[++last] = candidates[one]
                }
            }
            total = split(among, theirs, " ")
            for (at = 1; at <= total; at++) {
                bare = theirs[at]
                sub(/:.*/, "", bare)
                if (seen[bare] || seen[theirs[at]]) printf " %s", theirs[at]
            }
        }'
}
configure_debs() { # waits while another program has dpkg's lock, as apt-get does
    code=2 n=0
    while [ "$code" -eq 2 ] && [ "$n" -lt 150 ]; do
        [ "$n" -eq 0 ] || sleep 2
        n=$((n + 1))
        dpkg --configure -a
        code=$?
    done
}
purge_debs() { # $present; leaves $stay
    DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
    SUDO_FORCE_REMOVE=yes # its prerm refuses while root's password is locked; only a sudo that was not there before goes
    export DEBIAN_FRONTEND NEEDRESTART_SUSPEND SUDO_FORCE_REMOVE
    configure_debs
    for package in $present; do # what was cut off while it was being unpacked, apt-get does not remove
        [ "$(dpkg-query -W -f '${db:Status-Eflag}' "$package")" = reinstreq ] || continue
        for archive in /var/cache/apt/archives/"${package%%:*}"_*.deb; do
            if [ -f "$archive" ]; then dpkg --force-depends --force-confold --unpack "$archive"; fi
        done
        [ "$(dpkg-query -W -f '${db:Status-Eflag}' "$package")" != reinstreq ] ||
            try dpkg --force-remove-reinstreq --force-depends --remove "$package"
    done
    rm -rf -- /var/lib/dpkg/tmp.ci # of a package that dpkg had only begun to look at
    # shellcheck disable=SC2086  # a list of names
    present=$(present_of apt $present)
    while [ -n "$present" ]; do
        foreign=$(others_needing "$present")
        [ -n "$foreign" ] || break
        needed=$(needed_by "$foreign" "$present")
        [ -n "$needed" ] || needed=$present # better all than one of another
        stay="$stay$needed"
        present=$(without "$present" "$needed")
    done
    names=$(without "$present" "$configured")
    # shellcheck disable=SC2086  # a list of names
    forget_dead_clusters $names
    # First what is not purged: the other way round it would be, along with what it needs.
    # shellcheck disable=SC2046,SC2086  # lists of names
    remove_debs remove $(without "$present" "$names") || return 1
    # shellcheck disable=SC2086  # a list of names
    remove_debs purge $names
}
remove_debs() { # remove or purge, packages
    action=$1
    shift
    [ $# -eq 0 ] || try apt-get "$action" -y -q --allow-remove-essential -o DPkg::Lock::Timeout=300 "$@"
}
"""


def _farewell(packages: Sequence[str]) -> list[str]:
    """Return lines that keep packages which others need now: apt-get would remove both."""
    names = " ".join(shlex.quote(name) for name in packages)
    return [
        f"names={shlex.quote(names)}",
        'apt() { DEBIAN_FRONTEND=noninteractive SUDO_FORCE_REMOVE=yes LC_ALL=C.UTF-8 apt-get -q -y -o DPkg::Lock::Timeout=600 "$@" 2>/dev/null </dev/null; }',
        f"going=$(apt -s purge -- {names}) || going='Purg -'",
        "for name in $(printf '%s\\n' \"$going\" | sed -nE 's/^(Purg|Remv) ([^ ]+).*/\\2/p'); do",
        '    case " $names " in *" $name "*) ;; *) names= ;; esac',
        "done",
        f"{{ [ -n \"$names\" ] && apt purge -- {names} >/dev/null; }} || echo 'Left installed: {names}' >&2",
    ]


SHELL = ShellForm(
    functions=_FUNCTIONS + dead_clusters.FUNCTIONS,
    owns='has dpkg-query && dpkg-query --search "$1" >/dev/null 2>&1',
    state="state=$(dpkg-query -W -f '${db:Status-Status}' \"$package\" 2>/dev/null) || state=''",
    remove="purge_debs",
    farewell=_farewell,
)
