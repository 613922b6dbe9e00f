"""The clone's network card: addresses and routes, with ioctl(2) only (netdevice(7), route(7)).

Runs in the clone's network namespace. The host may not have iproute2. Raises OSError.
"""

from __future__ import annotations

import ctypes
import fcntl
import ipaddress
import os
import socket
import struct

from nqrust.installer.rehearsal.spec import GATEWAY, MTU, Uplink

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_SIOCADDRT, _SIOCDELRT, _SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK, _SIOCSIFMTU = (
    0x890B, 0x890C, 0x8914, 0x8916, 0x891C, 0x8922,
)  # fmt: skip
_IFF_UP_RUNNING = 0x1 | 0x40
_RTF_UP, _RTF_GATEWAY, _RTF_HOST, _RTF_REJECT = 0x1, 0x2, 0x4, 0x200


def open_card(name: str, node: str = "/dev/net/tun") -> int:
    """Return an unconnected card for a clone without a network. The card exists as long as this descriptor is open."""
    device = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    except BaseException:
        os.close(device)
        raise
    return device


def configure(uplink: Uplink, refused: tuple[str, ...]) -> None:
    """Bring up the card and loopback. All traffic goes through GATEWAY, even to the host's neighbours. `refused`: unreachable
    networks (CIDR)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        _flags_up(control, "lo")
        fcntl.ioctl(control, _SIOCSIFMTU, struct.pack("16si20x", uplink.name.encode(), MTU))
        addresses = [ipaddress.IPv4Interface(address) for address in uplink.addresses]
        for number, one in enumerate(addresses):
            alias = uplink.name if number == 0 else f"{uplink.name}:{number}"
            for request, value in ((_SIOCSIFADDR, one.ip), (_SIOCSIFNETMASK, one.netmask)):
                fcntl.ioctl(control, request, struct.pack("16s", alias.encode()) + _sockaddr(value) + b"\0" * 8)
        _flags_up(control, uplink.name)
        for one in addresses:
            if one.network.prefixlen < 32:
                _route(control, _SIOCDELRT, one.network, uplink.name)
        _route(control, _SIOCADDRT, ipaddress.IPv4Network(GATEWAY), uplink.name)
        _route(control, _SIOCADDRT, ipaddress.IPv4Network("0.0.0.0/0"), uplink.name, gateway=GATEWAY, metric=1)
        own = {one.ip for one in addresses}
        for network in map(ipaddress.IPv4Network, refused):
            if network.network_address not in own:
                _route(control, _SIOCADDRT, network, "")


def _flags_up(control: socket.socket, name: str) -> None:
    fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), _IFF_UP_RUNNING))


def _sockaddr(address: ipaddress.IPv4Address) -> bytes:
    return struct.pack("=HH4s8x", socket.AF_INET, 0, address.packed)


def _route(
    control: socket.socket, request: int, network: ipaddress.IPv4Network, card: str, *, gateway: str = "", metric: int = 0
) -> None:
    """Add or delete a route (struct rtentry of linux/route.h). Without a card, the network is unreachable."""
    text = ctypes.create_string_buffer(card.encode())
    flags = _RTF_UP | (_RTF_GATEWAY if gateway else 0) | (0 if card else _RTF_REJECT)
    flags |= _RTF_HOST if network.prefixlen == 32 else 0
    entry = struct.pack(
        "@L16s16s16sHhLPhPLLH", 0, _sockaddr(network.network_address),
        _sockaddr(ipaddress.IPv4Address(gateway or "0.0.0.0")), _sockaddr(network.netmask), flags, 0, 0, 0,
        metric + 1, ctypes.addressof(text) if card else 0, 0, 0, 0,
    )  # fmt: skip
    fcntl.ioctl(control, request, entry)
