"""dnf and rpm in an undo script."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from nqrust.installer.verbs.packages.manager import ShellForm

_FUNCTIONS = r"""remove_rpms() { # $present; leaves $stay
    while [ -n "$present" ]; do
        needed=''
        # shellcheck disable=SC2086  # a list of names
        capabilities=$(rpm -e --test --allmatches $present 2>&1 | sed -nE 's/^[[:space:]]*(.+) is needed by \(installed\) .*/\1/p')
        [ -n "$capabilities" ] || break
        for capability in $capabilities; do # also the words of a boolean dependency: (a if b)
            bare=${capability#\(}
            for term in "$bare" "${bare%\)}"; do
                needed="$needed $(rpm -q --whatprovides --qf '=%{NAME}\n' "$term" 2>/dev/null | sed -n 's/^=//p' | tr '\n' ' ')"
            done
        done
        rest=$(without "$present" "$needed")
        [ "$rest" != "$present" ] || rest='' # better all than one of another
        stay="$stay$(without "$present" "$rest")"
        present=$rest
    done
    # shellcheck disable=SC2086  # a list of names
    [ -z "$present" ] || try dnf -y -q remove --setopt=clean_requirements_on_remove=0 --setopt=protected_packages= $present
}
"""


def _farewell(packages: Sequence[str]) -> list[str]:
    """Return lines that use rpm, which reports packages that others need now. dnf would remove both."""
    names = " ".join(shlex.quote(name) for name in packages)
    return [
        f'for name in {names}; do rpm -q "$name" >/dev/null 2>&1 && set -- "$@" "$name"; done',
        '[ $# -eq 0 ] || { rpm -e --test --allmatches "$@" && dnf -y -q --setopt=clean_requirements_on_remove=0 remove "$@"; }'
        f" >/dev/null 2>&1 </dev/null || echo 'Left installed: {names}' >&2",
    ]


SHELL = ShellForm(
    functions=_FUNCTIONS,
    owns='has rpm && rpm -qf "$1" >/dev/null 2>&1',
    state="if rpm -q \"$package\" >/dev/null 2>&1; then state=installed; else state=''; fi",
    remove="remove_rpms",
    farewell=_farewell,
)
