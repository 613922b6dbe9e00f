"""Listening TCP and UDP sockets and their processes: /proc/net/{tcp,tcp6,udp,udp6} and /proc/PID/fd (proc(5)).

This needs no program, so it works without ss(8).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from nqrust.host.errors import HostError
from nqrust.host.facts.model import ListeningPort
from nqrust.host.facts.reading import names, text
from nqrust.host.port import Host
from nqrust.loopback import addresses, is_person

_LISTEN = {"tcp": 0x0A, "udp": 0x07}  # net/tcp_states.h; an unconnected UDP socket is in state CLOSE


@dataclass(frozen=True)
class Socket:
    protocol: str
    address: str
    port: int
    inode: int
    user: int = 0


def probe(host: Host, processes: dict[int, str]) -> tuple[ListeningPort, ...]:
    sockets = [
        socket
        for table in ("tcp", "tcp6", "udp", "udp6")
        for socket in parse_sockets(text(host, f"/proc/net/{table}"), table[:3])
    ]
    owners = _owners(host, {socket.inode for socket in sockets}, processes)
    found = {
        ListeningPort(
            socket.protocol,
            socket.address,
            socket.port,
            owners.get(socket.inode, 0),
            processes.get(owners.get(socket.inode, 0), ""),
            socket.user,
        )
        for socket in sockets
    }
    return tuple(sorted(found, key=lambda one: (one.protocol, one.port, one.address, one.pid)))


def person_at(host: Host, place: str, port: int) -> int | None:
    """Return the person whose program listens where a connection to `place` arrives, a loopback address or `localhost`. None: it is a
    service or root, or nobody listens."""
    found = [
        one for table in ("tcp", "tcp6") for one in parse_sockets(text(host, f"/proc/net/{table}"), "tcp") if one.port == port
    ]
    for address in addresses(place):
        every = ("::",) if ":" in address else ("0.0.0.0", "::")
        users = next((users for at in (address, *every) if (users := {one.user for one in found if one.address == at})), set())
        if people := sorted(filter(is_person, users)):
            return people[0]
    return None


def parse_sockets(content: str, protocol: str) -> tuple[Socket, ...]:
    """Return the listening sockets of a table. Lines that do not parse (the header is one) are skipped."""
    found = []
    for line in content.splitlines():
        fields = line.split()
        if len(fields) < 10:
            continue
        try:
            if int(fields[3], 16) != _LISTEN[protocol]:
                continue
            address, _, port = fields[1].partition(":")
            found.append(Socket(protocol, parse_address(address), int(port, 16) & 0xFFFF, int(fields[9]), int(fields[7])))
        except ValueError:
            continue
    return tuple(found)


def parse_address(text: str) -> str:
    """Parse an address. The kernel prints it as 32-bit words in host order: `0100007F` is 127.0.0.1.

    An IPv4 address in an IPv6 socket is returned as IPv4. Raises ValueError.
    """
    if len(text) not in (8, 32):
        raise ValueError(f"{text!r} is not an address")
    words = [bytes.fromhex(text[index : index + 8])[::-1] for index in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(words))
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _owners(host: Host, inodes: set[int], processes: dict[int, str]) -> dict[int, int]:
    """Return socket inode -> process that has it open; of several the lowest PID, usually the parent."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes if inode}
    found: dict[int, int] = {}
    for pid in sorted(processes):
        if len(found) == len(wanted):
            break
        for descriptor in names(host, f"/proc/{pid}/fd"):
            try:
                target = host.readlink(f"/proc/{pid}/fd/{descriptor}")
            except HostError:
                continue
            if target in wanted:
                found.setdefault(wanted[target], pid)
    return found
