"""Shell form of the records for units, supervisord and VMs: an undo script's functions and calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nqrust.contract.names import VM_USERS
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.service.undo import SCOPE_ENV, TAP_ALIAS, draws_rules, runs_on
from nqrust.installer.verbs.shell_words import call

FUNCTIONS = r"""stop_unit() { # unit, whether it stays enabled, whether it stays active
    with_systemd || return 0
    [ "$3" = 1 ] || systemctl stop "$1" 2>/dev/null
    [ "$2" = 1 ] || systemctl disable --quiet "$1" 2>/dev/null
    systemctl reset-failed "$1" 2>/dev/null
}
start_unit() { # unit, whether it was enabled
    with_systemd || return 0
    [ "$2" = 1 ] && systemctl enable --quiet "$1" 2>/dev/null
    systemctl restart "$1" || kept "$1 ran before and does not start now"
}
supervisor_program() { # verb, program, command line of supervisorctl, which ends with its configuration
    verb=$1 program=$2 code=127
    shift 2
    if [ -x "$1" ]; then
        "$@" "$verb" "$program" >/dev/null 2>&1
        code=$?
    fi
    [ "$code" -ge 126 ] && [ "$verb" = stop ] || return 0
    while [ $# -gt 1 ]; do shift; done # its Python is gone: all programs end together
    end_supervisord "$1"
}
same_machine() { # process: containers on this host are other machines
    [ "$(readlink "/proc/$1/ns/pid" 2>/dev/null)" = "$(readlink /proc/self/ns/pid)" ]
}
user_of() { # process: its real user
    sed -n 's/^Uid:[[:space:]]*\([0-9]*\).*/\1/p' "/proc/$1/status" 2>/dev/null
}
supervisors() { # configuration: the supervisord of root that has it, and no editor
    for folder in /proc/[0-9]*; do
        pid=${folder#/proc/}
        { [ "$(user_of "$pid")" = 0 ] && same_machine "$pid"; } || continue
        words=$(tr '\0' '\n' <"$folder/cmdline" 2>/dev/null)
        printf '%s\n' "$words" | grep -qxF -- "$1" || continue
        printf '%s\n' "$words" | head -n 3 | grep -qx -e supervisord -e '.*/supervisord' && printf '%s\n' "$pid"
    done 2>/dev/null
}
end_all() { # seconds, command that lists the processes
    n=$1
    shift
    for pid in $("$@"); do kill "$pid" 2>/dev/null; done
    while [ -n "$("$@")" ] && [ "$n" -gt 0 ]; do
        n=$((n - 1))
        sleep 1
    done
    for pid in $("$@"); do kill -9 "$pid" 2>/dev/null; done
}
of_vms() { # first and last user of VMs, beginning of an entry of the environment of root's processes
    for folder in /proc/[0-9]*; do
        pid=${folder#/proc/}
        user=$(user_of "$pid")
        [ "$pid" = $$ ] || [ -z "$user" ] || ! same_machine "$pid" && continue
        if [ "$user" -eq 0 ]; then
            tr '\0' '\n' <"$folder/environ" 2>/dev/null | grep -q -- "$3" && printf '%s\n' "$pid"
        elif [ "$user" -ge "$1" ] && [ "$user" -le "$2" ]; then
            printf '%s\n' "$pid"
        fi
    done 2>/dev/null
}
end_vms() { # beginning of their scopes' names, mark of their links, variable with the scope's name, users
    end_all 10 of_vms "$4" "$5" "^$3$1"
    for alias in /sys/class/net/*/ifalias; do
        case $(cat "$alias" 2>/dev/null) in
            "$2"*) remove_net_link "$(basename "$(dirname "$alias")")" "$(cat "$alias")" ;;
        esac
    done
}
end_supervisord() { end_all 60 supervisors "$1"; } # its configuration
"""


def unit(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    if args["supervisor"] == "systemd":
        stop = call("stop_unit", args["name"], int(args["enabled"]), int(args["active"]))
        used = call("moved_cluster_is_used", args["cluster"]) if args.get("cluster") else ""
        if args.get("found"):
            yield f"if {used}; then {call('kept', runs_on(args))}; else {stop}; fi"
        else:
            yield f"{used} || {stop}" if used else stop
    elif not args["active"] and args.get("control"):
        yield call("supervisor_program", "stop", args["name"], *args["control"])


def rest(args: dict[str, Any]) -> Iterator[str]:
    """Yield the call that stops the agent before the first revert."""
    if not draws_rules(args):
        return
    if args["supervisor"] == "systemd":
        yield call("stop_unit", args["name"], 1, 0)
    elif args.get("control"):
        yield call("supervisor_program", "stop", args["name"], *args["control"])


def start_of(args: dict[str, Any]) -> str:
    """Return the call that restarts a unit which ran before."""
    if args["supervisor"] == "systemd":
        return call("start_unit", args["name"], int(args["enabled"]))
    return call("supervisor_program", "restart", args["name"], *args.get("control", ["/nonexistent"]))


def supervisord(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    yield call("end_supervisord", args["config"])


def vms(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    yield call("end_vms", args["prefix"], TAP_ALIAS.decode(), SCOPE_ENV.decode(), VM_USERS[0], VM_USERS[-1])
