"""A filter for the ports of VMs on a bridge of nqr's own. nft(8), bridge family. For a LAN's bridge, see lan.py."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from nqrust.agent.network import fragments, own_name, own_table, ports
from nqrust.agent.network.ports import Ports
from nqrust.agent.store import VmRecord
from nqrust.contract.text import word
from nqrust.host.errors import HostError
from nqrust.host.port import Host


def table(found: Ports, allowed: fragments.Allowed) -> str:
    """Return input of nft(8) for these ports. Pure.

    A frame with a VLAN tag of number 0 is a plain packet to the host, and no rule finds ARP or a fragment in it. So no tag passes.
    """
    if not found:
        return own_table.text([])
    lines = fragments.shared(allowed)
    for one in found.vms:
        own = [*own_name.own_mac(one.mac), *own_name.own_address(one.ip)]
        lines += own_table.chain(f"vm-{word(one.tap)}", ["ether type != { ip, arp, ip6 } drop", *own, *fragments.few()])
    hook = "type filter hook prerouting priority -250; policy accept;"
    jumps = own_table.by_port({word(one.tap): f"jump vm-{one.tap}" for one in found.vms}, found.strange)
    return own_table.text([*lines, *own_table.chain("from-vms", [hook, jumps])])


class PortGuard:
    """`records` returns the records on disk. `lacking`: why VMs run without these rules, or without a network; empty if nothing is
    wrong."""

    def __init__(self, host: Host, records: Callable[[], Iterable[VmRecord]]) -> None:
        self._host, self._records, self._table = host, records, own_table.OwnTable(host)
        self._lock = threading.Lock()
        self.lacking = ""

    def sync(self) -> bool:
        """The ports of the VMs that run or still have one have these rules. Return whether anything changed."""
        with self._lock:
            found = ports.look(self._host, self._records())
            self.lacking = found.closed
            try:
                return self._table.fill(table(found, fragments.of_all(self._host)))
            except HostError as error:
                self.lacking = str(error) if found else ""
                return False
