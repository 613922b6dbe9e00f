"""Plan text for reverting records of links."""

from __future__ import annotations

from typing import Any


def link(args: dict[str, Any]) -> str:
    return f"remove interface {args['name']}"


def bridge(args: dict[str, Any]) -> str:
    return f"make bridge {args['name']} again"


def addresses(args: dict[str, Any]) -> str:
    return f"give {args['name']} its earlier addresses again"


def card(args: dict[str, Any]) -> str:
    seconds = args["window"]
    return (
        f"take {args['link']} out of bridge {args['bridge']}, with its addresses; the bridge comes back within {seconds} s unless"
        " another machine connects or somebody confirms"
    )
