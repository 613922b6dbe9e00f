"""Rules for the VMs on a LAN's bridge: what they reach of this host. The agent marks their packets (agent/network/lan.py).

The bridge is the administrator's. So the rules concern marked packets, and the port of the relay. Other machines of the LAN
reach what they reached before. A packet that a VM may send RETURNs to the administrator's own rules; only the relay is nqr's.

A host that forwards, such as for Docker, would lead a VM's packets on, too, and remember each as a connection. The LAN has its own
router on the bridge, so none goes back there. The host itself may be the router: so few go elsewhere.
"""

from __future__ import annotations

from nqrust.contract.names import FORWARD_CHAIN, LAN_MARK, RELAY_CHAIN
from nqrust.installer.verbs.firewall.bounds import FIRST, more_at_once, more_often
from nqrust.installer.verbs.firewall.rules import FORWARD, INPUT, Chain, FirewallSpec

_MARKED = ("-m", "mark", "--mark", LAN_MARK)
_OTHERS = (Chain("filter", FORWARD_CHAIN, "FORWARD", ()),)
_ASKS = ("133", "135", "136", "128")  # router solicitation, neighbour solicitation and advertisement, echo: RFC 4861, 4443
LED_ON, LED_AT_ONCE, LED_OPEN = 200, 1000, 4096
"""Connections that the host begins for all VMs together: a second, at once, and open. VMs make up their addresses."""


def lan_guests(bridge: str, relay: int | None) -> FirewallSpec:
    """Return the rules for IPv4: to this host, VMs may send DHCP (it may be the LAN's server), ping, reports to the agent's
    `relay`, and answers. Nobody else reaches the relay. `relay`: its port, None for an agent without one."""
    dhcp = ("-m", "udp", "--sport", "68", "--dport", "67")
    inbound = (
        ("-i", bridge, "-p", "udp", *_MARKED, *dhcp, "-j", "RETURN"),
        *(_to_relay(bridge, relay) if relay is not None else ()),
        ("-i", bridge, *_MARKED, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "RETURN"),
        ("-i", bridge, "-p", "icmp", *_MARKED, "-m", "icmp", "--icmp-type", "8", "-j", "RETURN"),
        ("-i", bridge, *_MARKED, "-j", "DROP"),
    )
    return FirewallSpec((Chain("filter", INPUT, "INPUT", inbound), _led_on(bridge)), (*_OTHERS, Chain(*RELAY_CHAIN, ())))


def _led_on(bridge: str) -> Chain:
    new = ("-i", bridge, *_MARKED, *FIRST)
    rules = (
        ("-i", bridge, "-o", bridge, *_MARKED, "-j", "DROP"),
        (*new, *more_often("nqr-lan", LED_ON, LED_AT_ONCE, each=False), "-j", "DROP"),
        (*new, *more_at_once(LED_OPEN, each=False), "-j", "DROP"),
    )
    return Chain("filter", FORWARD, "FORWARD", rules)


def _to_relay(bridge: str, relay: int) -> tuple[tuple[str, ...], ...]:
    port = ("-m", "tcp", "--dport", str(relay))
    to_relay = ("-i", bridge, "-p", "tcp", *_MARKED, *port)
    amid = ("!", "--tcp-flags", "FIN,SYN,RST,ACK", "SYN", "-m", "conntrack", "--ctstate", "NEW")
    return (
        (*to_relay, *amid, "-j", "DROP"),  # the agent's table counts the first packet of a connection
        (*to_relay, *more_at_once(16), "-j", "DROP"),
        (*to_relay, "-j", "ACCEPT"),
        ("!", "-i", "lo", "-p", "tcp", *port, "-j", "DROP"),
        ("!", "-d", "127.0.0.0/8", "-i", "lo", "-p", "tcp", *port, "-j", "DROP"),  # a user of the host has 16 million addresses
    )


def lan_guests_ipv6(bridge: str) -> FirewallSpec:
    """Return the rules for IPv6, which a LAN may have: neighbour discovery, ping, DHCP and answers."""
    icmp = [("-i", bridge, "-p", "ipv6-icmp", *_MARKED, "-m", "icmp6", "--icmpv6-type", kind, "-j", "RETURN") for kind in _ASKS]
    inbound = (
        *icmp,
        ("-i", bridge, "-p", "udp", *_MARKED, "-m", "udp", "--sport", "546", "--dport", "547", "-j", "RETURN"),
        ("-i", bridge, *_MARKED, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "RETURN"),
        ("-i", bridge, *_MARKED, "-j", "DROP"),
    )
    return FirewallSpec((Chain("filter", INPUT, "INPUT", inbound), _led_on(bridge)), _OTHERS, program="ip6tables")
