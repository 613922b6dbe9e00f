"""Shell form of the records for sysctls and modules: an undo script's functions and calls."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.kernel import forwarding, kvm_users, undo
from nqrust.installer.verbs.kernel.undo import sysctl_path
from nqrust.installer.verbs.shell_words import call

_FUNCTIONS = (
    forwarding.FUNCTIONS
    + kvm_users.FUNCTIONS
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
        kept "FORWARDING STAYS"
    else
        printf '%s\n' "$2" >"$1" || try false "$1"
    fi
}
remove_module() { # module, users that might have used it before
    [ -e "/sys/module/$1" ] || return 0
    user=$(kvm_user_since "$@")
    if [ -n "$user" ]; then
        kept "MODULE STAYS"
    else
        modprobe --remove "$1" 2>/dev/null || kept "module $1 is in use; it goes at the next boot"
    fi
}
"""
)
_STAY = {"FORWARDING STAYS": forwarding.stays("$sign"), "MODULE STAYS": undo.module_stays("$1", "$user")}
FUNCTIONS = functools.reduce(lambda text, name: text.replace(name, _STAY[name].replace("`", r"\`")), _STAY, _FUNCTIONS)


def sysctl(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    yield call("restore_sysctl", *_words(args))


def sysctl_stays(args: dict[str, Any]) -> str:
    if args["key"] != forwarding.FORWARDING:
        return ""
    return f'[ -n "$({call("forwarding_stays", *_words(args))})" ]'


def _words(args: dict[str, Any]) -> tuple[str, ...]:
    return sysctl_path(str(args["key"])), args["prior"], args["ours"], *args.get("others", ())


def module(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    yield call("remove_module", *_module(args))


def module_stays(args: dict[str, Any]) -> str:
    name = str(args["name"]).replace("-", "_")
    return f'[ -e "/sys/module/{name}" ] && [ -n "$({call("kvm_user_since", *_module(args))})" ]'


def _module(args: dict[str, Any]) -> tuple[str, ...]:
    return str(args["name"]).replace("-", "_"), *args.get("users", ())
