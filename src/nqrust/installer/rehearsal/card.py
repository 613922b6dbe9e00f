"""The clone's network card: a TUN device with address and default route, by ioctl(2) alone (netdevice(7), route(7)).

Called in the clone's network namespace; iproute2 may be missing on the host. Raises OSError.
"""

from __future__ import annotations

import ctypes
import fcntl
import ipaddress
import os
import socket
import struct

from nqrust.installer.rehearsal.packets import MTU
from nqrust.installer.rehearsal.spec import Uplink

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_SIOCADDRT, _SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK, _SIOCSIFMTU, _SIOCSIFTXQLEN = (
    0x890B, 0x8914, 0x8916, 0x891C, 0x8922, 0x8943,
)  # fmt: skip
_IFF_UP_RUNNING = 0x1 | 0x40
_RTF_UP = 0x1


def open_card(uplink: Uplink, node: str = "/dev/net/tun") -> int:
    """Make it and bring it and loopback up; gives the TUN's descriptor, which the card lives as long as."""
    device = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", uplink.name.encode(), _IFF_TUN | _IFF_NO_PI))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            _flags_up(control, "lo")
            fcntl.ioctl(control, _SIOCSIFMTU, struct.pack("16si20x", uplink.name.encode(), MTU))
            fcntl.ioctl(control, _SIOCSIFTXQLEN, struct.pack("16si20x", uplink.name.encode(), 10000))
            for number, address in enumerate(uplink.addresses):
                alias = uplink.name if number == 0 else f"{uplink.name}:{number}"
                interface = ipaddress.IPv4Interface(address)
                for request, value in ((_SIOCSIFADDR, interface.ip), (_SIOCSIFNETMASK, interface.netmask)):
                    fcntl.ioctl(control, request, struct.pack("16s", alias.encode()) + _sockaddr(value) + b"\0" * 8)
            _flags_up(control, uplink.name)
            _default_route(control, uplink.name)
    except BaseException:
        os.close(device)
        raise
    return device


def _flags_up(control: socket.socket, name: str) -> None:
    fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), _IFF_UP_RUNNING))


def _sockaddr(address: ipaddress.IPv4Address) -> bytes:
    return struct.pack("=HH4s8x", socket.AF_INET, 0, address.packed)


def _default_route(control: socket.socket, name: str) -> None:
    """struct rtentry of linux/route.h; everything goes through the card."""
    text = ctypes.create_string_buffer(name.encode())
    anywhere = _sockaddr(ipaddress.IPv4Address("0.0.0.0"))
    entry = struct.pack(
        "@L16s16s16sHhLPhPLLH", 0, anywhere, anywhere, anywhere, _RTF_UP, 0, 0, 0, 0, ctypes.addressof(text), 0, 0, 0
    )
    fcntl.ioctl(control, _SIOCADDRT, entry)
