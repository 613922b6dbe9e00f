"""Notices from the kernel that rules or chains went which the VM network relies on. netlink(7), NFNLGRP_NFTABLES.

nft(8) and iptables-nft(8) cause them: `nft flush ruleset`, a reload of another firewall, a restart of Docker. The older
interface of iptables-legacy tells nobody, so the regular look of the upkeep finds what vanished there.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator
from types import TracebackType

from nqrust.contract.names import FORWARD_CHAINS, RELAY_CHAIN, SOURCE_CHAIN

_NETFILTER, _SOL_NETLINK, _JOIN, _GROUP = 12, 270, 1, 7  # linux/netlink.h, linux/netfilter/nfnetlink.h
_SUBSYSTEM = 10
_DELTABLE, _DELCHAIN, _DELRULE = 2, 5, 8  # linux/netfilter/nf_tables.h
_TABLE_NAME, _CHAIN_NAME, _RULE_CHAIN = 1, 3, 2
_ATTRIBUTE = {_DELTABLE: _TABLE_NAME, _DELCHAIN: _CHAIN_NAME, _DELRULE: _RULE_CHAIN}
_TABLES = frozenset({"filter", "nat", "raw"})
_BUILT_IN = frozenset({"FORWARD", "INPUT", "OUTPUT", "POSTROUTING", "PREROUTING"})
_AGENTS = frozenset(chain for _, chain, _ in (*FORWARD_CHAINS, SOURCE_CHAIN, RELAY_CHAIN))
SETTLE, APART = 0.1, 1.0
"""Seconds: who takes rules out takes out many; and how often the rules are looked at, at most."""


class RuleChanges:
    """Listens while open. Raises OSError where the kernel has no nftables."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER)
        try:
            self._socket.setblocking(False)
            self._socket.bind((0, 0))
            self._socket.setsockopt(_SOL_NETLINK, _JOIN, _GROUP)
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> RuleChanges:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()

    async def wait(self) -> None:
        """Return once something went, and nothing more has gone for a moment."""
        while not await self._one():
            pass
        await asyncio.sleep(SETTLE)
        self._drain()

    async def _one(self) -> bool:
        try:
            return concerns(await asyncio.get_running_loop().sock_recv(self._socket, 65536))
        except OSError:
            return True  # ENOBUFS: more changes than the kernel keeps for us

    def _drain(self) -> None:
        try:
            while True:
                self._socket.recv(65536)
        except OSError:
            return


def concerns(datagram: bytes) -> bool:
    """Whether it tells of a removed rule, chain or table that the VM network may rely on. Pure. The agent's own chains do not
    count, because it rewrites them itself; who flushes them takes out others too."""
    return any(
        name in _TABLES if kind == _DELTABLE else name in _BUILT_IN or (name.startswith("NQR-") and name not in _AGENTS)
        for kind, name in removed(datagram)
    )


def removed(datagram: bytes) -> Iterator[tuple[int, str]]:
    """Yield the kind of each removal and the name of its table or chain. Pure."""
    while len(datagram) >= 20:
        length, number = struct.unpack_from("=IH", datagram)
        if not 20 <= length <= len(datagram):
            return
        kind = number & 0xFF
        if number >> 8 == _SUBSYSTEM and kind in _ATTRIBUTE:
            yield kind, _attribute(datagram[20:length], _ATTRIBUTE[kind])
        datagram = datagram[(length + 3) & ~3 :]


def _attribute(body: bytes, wanted: int) -> str:
    """Return a text attribute, or "". netlink(7): length and number, padded to four bytes."""
    while len(body) >= 4:
        length, number = struct.unpack_from("=HH", body)
        if not 4 <= length <= len(body):
            break
        if number & 0x3FFF == wanted:
            return body[4:length].rstrip(b"\0").decode(errors="replace")
        body = body[(length + 3) & ~3 :]
    return ""
