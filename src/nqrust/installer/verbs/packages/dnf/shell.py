"""The functions of an undo script that only dnf and rpm need."""

from __future__ import annotations

REMOVAL = r"""remove_rpms() { # $present; leaves $stay
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
