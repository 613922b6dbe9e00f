"""Ends connections that the kernel remembers. netlink(7); linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h.

conntrack(8) does the same and is on few hosts. A kernel that does not know how to delete connections by address deletes all of them
instead. So this reads all connections, and names each that ends.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Collection, Iterator

from nqrust.host.errors import HostError
from nqrust.host.port import Connections

_NETFILTER, _CONNTRACK = 12, 1
_GET, _DELETE = _CONNTRACK << 8 | 1, _CONNTRACK << 8 | 2
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_ERROR, _DONE = 2, 3
_ORIGINAL, _REPLY, _ID, _ZONE = 1, 2, 12, 18  # enum ctattr_type
_PROTOCOL = 2  # enum ctattr_tuple
_SOURCE, _DESTINATION = 1, 2  # enum ctattr_ip
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3  # enum ctattr_l4proto
_NUMBERS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}
_HEADER = 20  # bytes of nlmsghdr and nfgenmsg
_LONGEST = 1 << 16
_AT_ONCE = 64  # messages that one datagram has
_PATIENCE = 10.0  # seconds

Attributes = dict[int, bytes]


class Conntrack:
    def end_connections(self, wanted: Collection[Connections]) -> int:
        """Raises HostError."""
        if not wanted:
            return 0
        try:
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER) as netlink:
                netlink.settimeout(_PATIENCE)
                netlink.bind((0, 0))
                found = [_named(body) for body in _all(netlink, wanted) if any(_is(body, one) for one in wanted)]
                for some in range(0, len(found), _AT_ONCE):
                    _end(netlink, found[some : some + _AT_ONCE])
        except (OSError, struct.error) as error:
            raise HostError(f"connections could not be ended: {error}") from error
        return len(found)


def _all(netlink: socket.socket, wanted: Collection[Connections]) -> Iterator[Attributes]:
    """Yield the connections of IPv4 that may be `wanted`."""
    netlink.send(_message(_GET, _REQUEST | _DUMP, 1))
    known = [socket.inet_aton(one.address) for one in wanted]
    while True:
        datagram = netlink.recv(_LONGEST)
        about = [address for address in known if address in datagram]  # few are about one, and to read each takes long
        for kind, _, body in _messages(datagram):
            if kind == _DONE:
                return
            if kind == _ERROR:
                _raise(body)
            if any(address in body for address in about):
                yield attributes(body[4:])


def _end(netlink: socket.socket, found: list[bytes]) -> None:
    """Delete these. One that has gone meanwhile is no error."""
    last = len(found)
    flags = [_REQUEST] * (last - 1) + [_REQUEST | _ACK]
    numbered = enumerate(zip(found, flags, strict=True), 1)
    netlink.send(b"".join(_message(_DELETE, flag, number, name) for number, (name, flag) in numbered))
    while True:
        for kind, number, body in _messages(netlink.recv(_LONGEST)):
            if kind == _ERROR:
                _raise(body, but=errno.ENOENT)
                if number == last:
                    return


def _named(body: Attributes) -> bytes:
    """Return what names a connection, as the kernel wrote it. The id keeps its ends from naming a later one."""
    return b"".join(
        struct.pack("=HH", 4 + len(body[kind]), kind | (0x8000 if kind == _ORIGINAL else 0)) + _padded(body[kind])
        for kind in (_ORIGINAL, _ID, _ZONE)
        if kind in body
    )


def _is(body: Attributes, wanted: Connections) -> bool:
    asked, answer = (body.get(kind, b"") for kind in (_ORIGINAL, _REPLY))
    source, destination = (struct.pack("=HH4s", 8, kind, socket.inet_aton(wanted.address)) for kind in (_SOURCE, _DESTINATION))
    if not any(end in asked or end in answer for end in (source, destination)):
        return False
    if not wanted.protocol:
        return True
    of_asked, of_answer = (attributes(attributes(one).get(_PROTOCOL, b"")) for one in (asked, answer))
    return (
        source in answer
        and of_asked.get(_NUMBER) == bytes((_NUMBERS[wanted.protocol],))
        and of_asked.get(_DESTINATION_PORT) == struct.pack("!H", wanted.port)
        and of_answer.get(_SOURCE_PORT) == struct.pack("!H", wanted.leads_to)
    )


def _message(kind: int, flags: int, number: int, attributes: bytes = b"") -> bytes:
    family = struct.pack("=BBH", socket.AF_INET, 0, 0)
    return struct.pack("=IHHII", _HEADER + len(attributes), kind, flags, number, 0) + family + attributes


def _messages(datagram: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield the kind, the number and the body of each message. Pure."""
    at = 0
    while len(datagram) - at >= 16:
        length, kind, _, number = struct.unpack_from("=IHHI", datagram, at)
        if not 16 <= length <= len(datagram) - at:
            raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG))
        yield kind, number, datagram[at + 16 : at + length]
        at += (length + 3) & ~3


def attributes(body: bytes) -> Attributes:
    """Return the attributes of a message, by their number. Pure."""
    found: Attributes = {}
    at = 0
    while len(body) - at >= 4:
        length, kind = struct.unpack_from("=HH", body, at)
        if not 4 <= length <= len(body) - at:
            break
        found[kind & 0x3FFF] = body[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def _padded(value: bytes) -> bytes:
    return value + bytes(-len(value) % 4)


def _raise(body: bytes, but: int = 0) -> None:
    number = -struct.unpack_from("=i", body)[0]
    if number not in (0, but):
        raise OSError(number, os.strerror(number))
