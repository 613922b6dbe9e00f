"""Runs beside guests_behind_rules.py: what the host remembers of a guest that sends to all, which it does where br_netfilter is."""

from __future__ import annotations

import os
from collections.abc import Callable

from nqrust.agent.network.sources import Sources
from nqrust.agent.store import VmRecord
from nqrust.host.local import LocalHost


def seen(
    guest: VmRecord, tracked: Callable[[], int], sh: Callable[[str], str], send: Callable[[int, str], str]
) -> dict[str, object]:
    """`send`: that many broadcasts, over IPv4 and IPv6."""
    if not os.path.exists("/proc/sys/net/bridge"):
        return {"br_netfilter": False}
    sources = Sources(LocalHost(), "fcbr0", lambda: [guest])
    said: dict[str, object] = {"drawn": [sources.sync(), sources.sync()], "lacking": sources.lacking}
    sh("ip -n guest0 -6 addr add fd00::20/64 dev eth0 nodad")
    before = tracked()
    send(1000, "10.0.0.255")
    said["tracked"] = tracked() - before
    sh("iptables -t raw -F NQR-SOURCE; ip6tables -t raw -F NQR-SOURCE")
    send(1000, "10.0.0.255")
    said["tracked without the rules"] = tracked() - before
    said["put back"] = [sources.sync(), sources.sync()]
    return said
