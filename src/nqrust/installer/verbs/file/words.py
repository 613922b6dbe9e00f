"""Plan text for reverting records of files, folders or links."""

from __future__ import annotations

from typing import Any


def file(args: dict[str, Any]) -> str:
    return f"remove {args['path']}" if args.get("prior") is None else f"put back {args['path']} as it was before"


def block(args: dict[str, Any]) -> str:
    return f"remove the block {args['marker']} from {args['path']}"


def block_text(args: dict[str, Any]) -> str:
    return f"give the block {args['marker']} in {args['path']} its earlier text again"


def directory(args: dict[str, Any]) -> str:
    return f"remove {args['path']}/" + (" with all in it" if args.get("tree") else "")


def contents(args: dict[str, Any]) -> str:
    return f"empty {args['path']}/"


def mode(args: dict[str, Any]) -> str:
    return f"give {args['path']} the mode {int(args['mode']):04o} {args['owner']}:{args['group']} again"


def symlink(args: dict[str, Any]) -> str:
    return f"remove link {args['path']}" if args.get("prior") is None else f"point {args['path']} to {args['prior']} again"
