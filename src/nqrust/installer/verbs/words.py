"""What reverting a record does, in words: for plans, which show it before it is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _unit(args: dict[str, Any]) -> str:
    if args["active"]:
        return f"restart unit {args['name']} as it was before"
    return f"stop unit {args['name']}" if args["enabled"] else f"remove unit {args['name']}"


def _file(args: dict[str, Any]) -> str:
    return f"remove {args['path']}" if args.get("prior") is None else f"put back {args['path']} as it was before"


def _symlink(args: dict[str, Any]) -> str:
    return f"remove link {args['path']}" if args.get("prior") is None else f"point {args['path']} to {args['prior']} again"


WORDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "file": _file,
    "block": lambda a: f"remove the block {a['marker']} from {a['path']}",
    "block_text": lambda a: f"give the block {a['marker']} in {a['path']} its earlier text again",
    "directory": lambda a: f"remove {a['path']}/" + (" with all in it" if a.get("tree") else ""),
    "contents": lambda a: f"empty {a['path']}/",
    "mode": lambda a: f"give {a['path']} the mode {int(a['mode']):04o} {a['owner']}:{a['group']} again",
    "symlink": _symlink,
    "user": lambda a: f"remove user {a['name']}",
    "group": lambda a: f"remove group {a['name']}",
    "member": lambda a: f"remove {a['user']} from group {a['group']}",
    "packages": lambda a: "remove packages",
    "link": lambda a: f"remove interface {a['name']}",
    "bridge": lambda a: f"make bridge {a['name']} again",
    "addresses": lambda a: f"give {a['name']} its earlier addresses again",
    "ruleset": lambda a: "fill the firewall chains as they were before",
    "sysctl": lambda a: f"set {a['key']} to {a['prior']} again",
    "module": lambda a: f"unload module {a['name']}",
    "rules": lambda a: "remove the firewall chains " + ", ".join(chain for _, chain in a["chains"]),
    "unit": _unit,
    "supervisord": lambda a: "end supervisord",
    "vms": lambda a: "end every VM of this host",
    "role": lambda a: f"drop role {a['name']}",
    "database": lambda a: f"drop database {a['name']}",
    "resource": lambda a: f"remove {a['url']}",
}
