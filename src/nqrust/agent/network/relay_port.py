"""The port of the relay, where root alone answers guests. iptables-extensions(8): owner.

A guest sends its token there in plain text, and cannot see who listens. Any user of the host may listen on a free port, such as
while the agent restarts. So the host drops each packet with a SYN that another user sends from there, and no connection begins: the
answer to a guest's first packet, and a first packet of that user, because both ends may begin (RFC 9293, 3.5). Later packets may have
no owner: those of a socket that is closed.

An answer has no owner either while the kernel makes no socket for it (tcp(7), tcp_syncookies), as when many guests begin at once. The
relay's answers have a mark then.
"""

from __future__ import annotations

import threading

from nqrust.agent.network import own_chain
from nqrust.contract.names import RELAY_CHAIN, RELAY_MARK
from nqrust.contract.text import word
from nqrust.host.errors import HostError
from nqrust.host.port import Host


class RelayPort:
    """`bridge`: where the guests are. `lacking`: why this kernel cannot do it; empty when it can."""

    def __init__(self, host: Host, bridge: str, port: int) -> None:
        self._host, self._wanted = host, [answers(bridge, port)]
        self._lock = threading.Lock()
        self.lacking = ""

    def sync(self) -> bool:
        """Put the rule in place. Return whether it was missing."""
        if self._host.which("iptables") is None:
            return False
        with self._lock:
            try:
                changed = own_chain.draw(self._host, "iptables", RELAY_CHAIN, self._wanted)
            except HostError as error:
                self.lacking = str(error)
                return False
        self.lacking = ""
        return changed


def answers(bridge: str, port: int) -> own_chain.Rule:
    """Return the rule in the form of `iptables -S`. Pure."""
    first = ("-p", "tcp", "-m", "tcp", "--sport", str(port), "--tcp-flags", "SYN", "SYN")
    strange = ("-m", "owner", "!", "--uid-owner", "0", "-m", "mark", "!", "--mark", RELAY_MARK)
    return ("-o", word(bridge), *first, *strange, "-j", "DROP")
