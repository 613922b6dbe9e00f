"""Runs beside guests_behind_rules.py: how many connections guests begin to a port of the platform on another machine."""

from __future__ import annotations

from collections.abc import Callable

from nqrust.agent.network.sources import Sources
from nqrust.agent.store import VmRecord
from nqrust.host.local import LocalHost

_BEGIN = """
import socket, sys, time
begun = []
for _ in range(int(sys.argv[3])):
    begun.append(socket.socket())
    begun[-1].setblocking(False)
    begun[-1].connect_ex((sys.argv[1], int(sys.argv[2])))
time.sleep(0.5)  # and no second SYN
print(sum(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != 2 for one in begun))  # TCP_SYN_SENT of tcp(7)
"""
MANY = 50
"""Fewer than wait for a listener in guest_programs.LISTEN."""


def seen(guests: list[VmRecord], inside: Callable[..., str], address: str, port: int) -> dict[str, object]:
    def begun() -> list[int]:
        return [int(inside(f"guest{number}", _BEGIN, address, port, MANY)) for number in (0, 1)]

    others = Sources(LocalHost(), "fcbr0", lambda: guests, {port + 1})
    said: dict[str, object] = {"drawn": [others.sync(), others.sync()], "lacking": others.lacking, "to another port": begun()}
    Sources(LocalHost(), "fcbr0", lambda: guests, {port}).sync()
    return said | {"to the platform": begun()}
