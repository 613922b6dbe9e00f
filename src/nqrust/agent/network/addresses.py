"""Whether the TAP, the MAC and the address that a manager gives a VM can be that VM's on this host.

Both end up in files and commands that root's programs read (ip-batch, dnsmasq, iptables-restore). The agent refuses a faulty
or hostile manager here, before it writes anything.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from nqrust.agent.errors import Refused
from nqrust.agent.settings import Network
from nqrust.contract.agent import VmSpec
from nqrust.contract.names import mac_address, tap_name


def check(spec: VmSpec, network: Network) -> None:
    """Raise Refused if it cannot."""
    wanted = tap_name(spec.id)
    if spec.tap != wanted:
        raise Refused(
            "NQR-NET-711", f"The TAP of VM {spec.name} is {wanted}, not {spec.tap}.", "Leave the TAP's name to the manager."
        )
    mac = mac_address(spec.id)
    if spec.mac != mac:
        raise Refused(
            "NQR-NET-711", f"The MAC of VM {spec.name} is {mac}, not {spec.mac}.", "Leave the MAC address to the manager."
        )
    if spec.ip is None:
        return
    if not network.gateway:
        raise Refused(
            "NQR-NET-711",
            f"The network of this host assigns addresses itself, so VM {spec.name} cannot have {spec.ip}.",
            "Leave the address out.",
        )
    subnet, ip = IPv4Network(network.cidr), IPv4Address(spec.ip)
    if ip not in subnet or ip in (subnet.network_address, subnet.broadcast_address, IPv4Address(network.gateway)):
        raise Refused(
            "NQR-NET-711",
            f"VM {spec.name} cannot have the address {spec.ip} in the network {network.cidr} of this host.",
            f"Use a free address of {network.cidr}; {network.gateway} is the gateway.",
        )
