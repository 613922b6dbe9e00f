"""The address that each VM may send from. The host drops packets with a wrong one as they come in. iptables-extensions(8), mac.

The installer's rules bound each guest's use of the host by its address. A guest that sent from the address of a neighbour
would use up the share of that neighbour. The bridge port accepts the VM's own MAC only (taps.py); this chain ties the MAC to
the address. The chain lets other machines through: an administrator may have put them on the bridge.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from nqrust.agent.network import own_chain
from nqrust.agent.store import VmRecord
from nqrust.contract.names import SOURCE_CHAIN
from nqrust.contract.text import word
from nqrust.host.errors import CommandFailed
from nqrust.host.port import Host


class Sources:
    """`records`: what is on disk now; asked under a lock, so that the last writer draws the last picture."""

    def __init__(self, host: Host, bridge: str, records: Callable[[], Iterable[VmRecord]]) -> None:
        self._host, self._bridge, self._records = host, bridge, records
        self._lock = threading.Lock()
        self.lacking = ""
        """Why this kernel cannot do it; empty when it can."""

    def sync(self) -> bool:
        """The chain is as the records say; whether anything had to be changed. A VM runs without it, where the kernel cannot:
        `lacking` tells then."""
        if self._host.which("iptables") is None:
            return False
        with self._lock:
            try:
                ported = [one for one in self._records() if own_chain.has_port(self._host, one)]
                changed = own_chain.draw(self._host, "iptables", SOURCE_CHAIN, rules(self._bridge, ported))
            except CommandFailed as error:
                self.lacking = str(error)
                return False
            self.lacking = ""
            return changed


def rules(bridge: str, records: Iterable[VmRecord]) -> list[tuple[str, ...]]:
    """As `iptables -S` prints them, for VMs with a port on the bridge. Pure. A VM without an address yet asks for one from 0.0.0.0; RFC 2131."""
    found: list[tuple[str, ...]] = []
    for one in sorted(records, key=lambda record: record.id):
        if one.ip:
            source, mac = f"{word(one.ip)}/32", word(one.mac)
            found.append(("-s", source, "-i", bridge, "-m", "mac", "!", "--mac-source", mac, "-j", "DROP"))
            found.append(("!", "-s", source, "-i", bridge, "-m", "mac", "--mac-source", mac, "-j", "DROP"))
    asks = ("-s", "0.0.0.0/32", "-i", bridge, "-p", "udp", "-m", "udp", "--sport", "68", "--dport", "67", "-j", "RETURN")
    return [asks, *found] if found else []
