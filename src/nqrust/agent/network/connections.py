"""Connections that the host remembers end with the VM or the forward that they belong to. conntrack(8), iptables-extensions(8).

The host passes on what belongs to a connection for as long as packets come. An address and a port go to the next VM, and that VM would
receive what clients and servers of the last one still send.
"""

from __future__ import annotations

from nqrust.host.errors import HostError
from nqrust.host.port import Connections, Host


class Ends:
    """`lacking`: why this kernel cannot end connections; empty when it can. A VM runs without that."""

    def __init__(self, host: Host) -> None:
        self._host, self.lacking = host, ""

    def end(self, *wanted: Connections) -> None:
        if not wanted:
            return
        try:
            self._host.end_connections(wanted)
            self.lacking = ""
        except HostError as error:
            self.lacking = str(error)
