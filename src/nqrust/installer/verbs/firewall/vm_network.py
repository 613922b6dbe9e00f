"""The rules of a VM network on its own bridge: what its guests reach, how much of it, and under which address they leave."""

from __future__ import annotations

from nqrust.contract.names import CLOUD_SERVICES, FORWARD_CHAINS, LINK_LOCAL, RELAY_CHAIN, ROUTED_CHAIN, SOURCE_CHAIN
from nqrust.installer.verbs.firewall import bounds
from nqrust.installer.verbs.firewall.bounds import FIRST, more_at_once, more_often
from nqrust.installer.verbs.firewall.rules import FORWARD, INPUT, POSTROUTING, Chain, FirewallSpec

TCP_PORTS, UDP_PORTS = "32768-65535", "61001-65535"
"""Ports of the host for connections of guests. net.ipv4.ip_local_port_range ends at 60999, mosh(1) at 61000."""
_NO_DNS = ("-p", "tcp", "-m", "tcp", "!", "--dport", "53")
_ANSWERS = (
    ("--ctstate", "RELATED", "-j", "ACCEPT"),  # such as errors of routers, about answers of a forward too
    ("--ctstate", "DNAT", "!", "--ctstatus", "EXPECTED", "--ctdir", "ORIGINAL", "-j", "DROP"),  # NQR-FWD took the others
    ("--ctstate", "ESTABLISHED", "-j", "ACCEPT"),
)


def vm_network(
    bridge: str,
    subnet: str,
    gateway: str,
    *,
    outside: bool = True,
    masquerade: bool = True,
    dns: bool = False,
    tcp_ports: tuple[int, ...] = (),
    anybody: bool = False,
    apart: bool = True,
    routes: bool = False,
) -> FirewallSpec:
    """Return the rules of a VM network on its own bridge.

    Guests are strangers: to the host they may send DHCP, ping, DNS where the bridge serves it, and
    `tcp_ports` on the gateway's address; nothing else. Nobody else reaches that DNS, and `tcp_ports` only with `anybody`.
    `outside`: they may reach what lies beyond the host (NAT), but no link-local address, and of a cloud's services its name
    server only; without it the network is isolated. From beyond only answers come in. `apart`: the agent isolates the TAPs of
    guests from each other, and the host does not lead one to another either: a guest that sends its neighbour's packets to the
    gateway's MAC would have the host route them. `routes`: the host forwards for others too. If not, it drops what has
    nothing to do with the VMs: nqr turns forwarding on, which holds for all interfaces. `subnet` and `gateway` IPv4.

    The limits count by address, so packets with an address of no guest go first: they would fill the
    tables that the others need. DHCP comes before that, because it has no address yet.
    """
    to_gateway = ("-d", f"{gateway}/32", "-i", bridge)
    stranger = ("!", "-s", subnet, "-i", bridge, "-j", "DROP")
    bounded = [
        stranger,
        ("-i", bridge, *FIRST, *more_often("nqr-new", 200, 1000), "-j", "DROP"),
        ("-i", bridge, *FIRST, *more_at_once(4096), "-j", "DROP"),
    ]
    if outside:
        bounded.append(("-i", bridge, "-p", "udp", *FIRST, *bounds.to_one_port("nqr-udp", 25, 200), "-j", "DROP"))
    forward: list[tuple[str, ...]] = [("-d", LINK_LOCAL, "-i", bridge, "-j", "DROP")]
    if apart:
        forward.append(("-i", bridge, "-o", bridge, "-j", "DROP"))
    if outside:
        forward += [("-d", f"{one}/32", "-i", bridge, *_NO_DNS, "-j", "DROP") for one in CLOUD_SERVICES if ":" not in one]
    if outside or not apart:
        forward += bounded
    if not apart:
        forward.append(("-i", bridge, "-o", bridge, "-j", "ACCEPT"))
    if outside:
        forward.append(("-s", subnet, "-i", bridge, "-j", "ACCEPT"))
        forward += [("-d", subnet, "-o", bridge, "-m", "conntrack", *rule) for rule in _ANSWERS]
    forward += [("-i", bridge, "-j", "DROP"), ("-o", bridge, "-j", "DROP")]
    dns_of = {p: (*to_gateway, "-p", p, "-m", p, "--dport", "53") for p in ("udp", "tcp")} if dns else {}
    kept = [("udp", 53), ("tcp", 53)] if dns else []
    kept += [] if anybody else [("tcp", port) for port in tcp_ports]
    inbound: list[tuple[str, ...]] = [
        # The gateway's address is the host's, so users of the host and machines that lead there reach what listens on it.
        *(("-d", f"{gateway}/32", "!", "-i", bridge, "-p", p, "-m", p, "--dport", str(port), "-j", "DROP") for p, port in kept),
        ("-i", bridge, "-p", "udp", "-m", "udp", "--sport", "68", "--dport", "67", "-j", "ACCEPT"),
        stranger,
    ]
    if dns:
        # A guest that asks again and again from one port has one connection, so queries are counted before answers pass.
        inbound += bounds.queries(dns_of["udp"])
    inbound += [
        ("-i", bridge, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"),
        ("-i", bridge, *FIRST, *more_often("nqr-host", 100, 300), "-j", "DROP"),
    ]
    if dns:
        inbound += bounds.connections(dns_of["tcp"])
    inbound.append((*to_gateway, "-p", "icmp", "-m", "icmp", "--icmp-type", "8", "-j", "ACCEPT"))
    inbound += [(*rule, "-j", "ACCEPT") for rule in dns_of.values()]
    for port in tcp_ports:
        to_port = (*to_gateway, "-p", "tcp", "-m", "tcp", "--dport", str(port))
        inbound += [(*to_port, *more_at_once(16), "-j", "DROP"), (*to_port, "-j", "ACCEPT")]
    inbound.append(("-i", bridge, "-j", "DROP"))
    chains = [Chain("filter", FORWARD, "FORWARD", tuple(forward)), Chain("filter", INPUT, "INPUT", tuple(inbound))]
    if outside and masquerade:
        chains.append(Chain("nat", POSTROUTING, "POSTROUTING", _masquerade(bridge, subnet)))
    if outside and not routes:
        chains.append(Chain("filter", ROUTED_CHAIN, "FORWARD", (("!", "-i", bridge, "!", "-o", bridge, "-j", "DROP"),)))
    agents = (*(FORWARD_CHAINS if outside else ()), SOURCE_CHAIN, RELAY_CHAIN)
    others = tuple(Chain(table, name, parent, ()) for table, name, parent in agents)
    return FirewallSpec(tuple(chains), others)


def _masquerade(bridge: str, subnet: str) -> tuple[tuple[str, ...], ...]:
    """Return the rules that give what guests send the address of their host, at ports where no service of the host listens.

    An answer goes where its connection came from. If a guest's packets kept the port of a service, then what the machine that it
    sends them to sends that service would go to the guest (CVE-2021-3773). Clients over UDP often have a fixed port, so a guest
    could hold all the ports of a range for one: that range must hold no service. Over TCP, the connections that have
    ended keep their ports for two minutes, and a range of that size would be used up. Clients over TCP have any port. In the range of
    Linux's own ephemeral ports a guest gets one by chance, and has no way to hold one for a client.
    """
    leaves = ("-s", subnet, "!", "-d", subnet, "!", "-o", bridge)
    return (
        (*leaves, "-p", "tcp", "-j", "MASQUERADE", "--to-ports", TCP_PORTS, "--random-fully"),
        (*leaves, "-p", "udp", "-j", "MASQUERADE", "--to-ports", UDP_PORTS),
        (*leaves, "-j", "MASQUERADE"),
    )


def vm_network_ipv6(bridge: str, *, apart: bool = True) -> FirewallSpec:
    """Rules of the same network for IPv6, which it does not have: nothing passes between guests and host, or through it.

    The bridge has IPv6 turned off; these hold when somebody turns it on for all interfaces.
    """
    among = () if apart else (("-i", bridge, "-o", bridge, "-j", "ACCEPT"),)
    forward = (*among, ("-i", bridge, "-j", "DROP"), ("-o", bridge, "-j", "DROP"))
    return FirewallSpec(
        (Chain("filter", FORWARD, "FORWARD", forward), Chain("filter", INPUT, "INPUT", (("-i", bridge, "-j", "DROP"),))),
        (Chain(*SOURCE_CHAIN, ()),),
        program="ip6tables",
    )
