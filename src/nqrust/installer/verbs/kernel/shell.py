"""Shell form of the records for sysctls and modules: an undo script's functions and calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.kernel import forwarding
from nqrust.installer.verbs.kernel.undo import sysctl_path
from nqrust.installer.verbs.shell_words import call

FUNCTIONS = (
    forwarding.FUNCTIONS
    + r"""restore_sysctl() { # file, prior, ours, signs of others from when it was prior
    [ -e "$1" ] || return 0
    now=$(cat "$1")
    [ "$now" = "$2" ] && return
    if [ "$now" != "$3" ]; then
        kept "$1 is $now, which is neither what we set nor what it was"
        return
    fi
    sign=$(forwarding_stays "$@")
    if [ -n "$sign" ]; then
        kept "STAYS"
    else
        printf '%s\n' "$2" >"$1" || try false "$1"
    fi
}
remove_module() { if [ -e "/sys/module/$1" ]; then modprobe --remove "$1" 2>/dev/null || kept "module $1 is in use; it goes at the next boot"; fi; }
"""
).replace("STAYS", forwarding.stays("$sign").replace("`", r"\`"))


def sysctl(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    yield call("restore_sysctl", *_words(args))


def sysctl_stays(args: dict[str, Any]) -> str:
    if args["key"] != forwarding.FORWARDING:
        return ""
    return f'[ -n "$({call("forwarding_stays", *_words(args))})" ]'


def _words(args: dict[str, Any]) -> tuple[str, ...]:
    return sysctl_path(str(args["key"])), args["prior"], args["ours"], *args.get("others", ())


def module(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    yield call("remove_module", str(args["name"]).replace("-", "_"))
