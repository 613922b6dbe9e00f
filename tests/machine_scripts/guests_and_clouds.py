"""Runs beside guests_behind_rules.py: which services of a cloud guests reach."""

from __future__ import annotations

from collections.abc import Callable

METADATA, OF_AZURE = ADDRESSES = ("169.254.169.254", "168.63.129.16")


def seen(sh: Callable[[str], str], reaches: Callable[..., bool], listen: Callable[..., None], web: str) -> dict[str, object]:
    listen("web", 53)
    closed = {
        "web": reaches(0, web),
        "metadata": reaches(0, METADATA),
        "host": reaches(0, "10.0.0.1"),
        "Azure": reaches(0, OF_AZURE),
        "its name server": reaches(0, OF_AZURE, 53),
    }
    sh("iptables -D NQR-FORWARD 1")
    sh(f"iptables -D NQR-FORWARD -d {OF_AZURE}/32 -i fcbr0 -p tcp -m tcp ! --dport 53 -j DROP")
    return {
        "closed": closed,
        "metadata without the rule": reaches(0, METADATA),
        "Azure without the rule": reaches(0, OF_AZURE),
    }
