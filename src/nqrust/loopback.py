"""Tells who listens on a loopback port. Any user may listen on a free port above 1023, also while a service restarts.

So before a program sends a token to loopback in plain text, it looks whose listener is there: only root's, its own, that of the
service user, and that of the person behind sudo(8) are trusted.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import pwd
import socket
import struct
from collections.abc import Iterator
from urllib.parse import urlsplit

SERVICE_USER = "nqrust"
"""The manager's user."""
_POSTGRES = "postgres"
_MAPPED = bytes(10) + b"\xff\xff"  # RFC 4291, 2.5.5.2
_LISTEN = 0x0A  # net/tcp_states.h
_ALL, _ANY = 0xFFFFFFFF, 0xFFFFFFFF  # states; INET_DIAG_NOCOOKIE of linux/inet_diag.h
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
_REQUEST, _DUMP, _DONE, _ERROR = 0x1, 0x300, 3, 2


class Impostor(ConnectionError):
    """The program that listens belongs to a user who is not trusted. Nothing was sent to it."""


def is_loopback(address: str) -> bool:
    """Return whether an address is this machine's loopback (RFC 1122, 3.2.1.3; RFC 4291, 2.5.3 and 2.5.5.2). Names are not."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return ((found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None) or found).is_loopback


def is_own(address: str) -> bool:
    """Return whether this machine has the address: its packets there would come from it. Connecting a UDP socket sends nothing."""
    try:
        found = ipaddress.ip_address(address)
        with socket.socket(socket.AF_INET if found.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.connect((str(found), 9))
            return ipaddress.ip_address(probe.getsockname()[0].partition("%")[0]) == found
    except (ValueError, OSError):  # a name, or no way leads there
        return False


def is_local(host: str) -> bool:
    """Return whether the host of an address, or the name `localhost`, is this machine's loopback."""
    return host == "localhost" or is_loopback(host.removeprefix("[").removesuffix("]"))


def is_person(user: int) -> bool:
    """Return whether a user may be a person, or a container of one, and no service: login.defs(5), UID_MIN and SYS_UID_MAX;
    systemd's "Users, Groups, UIDs and GIDs" for those after them. `postgres` is none, whatever number it was given."""
    with contextlib.suppress(KeyError):
        if pwd.getpwuid(user).pw_name == _POSTGRES:
            return False
    return 1000 <= user < 60_578 or user > 65_535


def addresses(host: str) -> tuple[str, ...]:
    """Return the addresses to which a connection to `host` may go, a loopback address or `localhost`."""
    return ("127.0.0.1", "::1") if host == "localhost" else (host.strip("[]"),)


def person_at(host: str, port: int) -> int | None:
    """Return the person whose program listens at `host`, a loopback address or `localhost`. Neither root nor this process's user is
    one. None: it is a service, or nobody listens."""
    for address in addresses(host):
        for user in sorted(_listening(address, port) - {0, os.geteuid()}):
            if is_person(user):
                return user
    return None


def check(host: str, port: int, *, connected: bool = False) -> None:
    """Raise Impostor if a user who is not trusted listens at `host`, a loopback address. `connected`: somebody must listen there.

    Check before and after connecting: a listener that is replaced between must be trusted both times.
    """
    for address in addresses(host):
        users = _listening(address, port)
        strange = sorted(users - _trusted())
        if strange:
            raise Impostor(f"a program of user {strange[0]} listens at {host}:{port}, and nothing was sent to it")
        if connected and not users:
            raise Impostor(f"nobody can tell who listens at {host}:{port}, so nothing was sent there")


def connect(url: str, timeout: float = 10.0) -> socket.socket | None:
    """Return a socket that is connected to a trusted listener, for `ws:` or `http:` on loopback. None for other URLs: a client
    that proves TLS, or another machine. Raises Impostor, OSError."""
    address = urlsplit(url)
    if address.scheme not in ("ws", "http") or not is_local(address.hostname or ""):
        return None
    host, port = str(address.hostname), address.port or 80
    check(host, port)
    connection = socket.create_connection((host, port), timeout)
    try:
        check(str(connection.getpeername()[0]), port, connected=True)
    except BaseException:
        connection.close()
        raise
    return connection


def user_of(client: tuple[str, int], server: tuple[str, int]) -> int | None:
    """Return the user whose socket at `client` is connected to `server`, both of this machine. None if the kernel does not tell.

    A program may close its socket while the server still reads. The kernel then gives root as its user, and no inode.
    """
    try:
        near, far = ipaddress.ip_address(client[0]), ipaddress.ip_address(server[0])
        family = socket.AF_INET if near.version == 4 else socket.AF_INET6
        ends = struct.pack("!HH16s16s", client[1], server[1], near.packed, far.packed)
        question = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, _ALL) + ends + struct.pack("=III", 0, _ANY, _ANY)
        with _diagnosis(question, _REQUEST) as link:
            answer = link.recv(1 << 16)
    except (OSError, ValueError):
        return None
    if struct.unpack_from("=IH", answer)[1] != _SOCK_DIAG_BY_FAMILY:
        return None
    user, inode = struct.unpack_from("=II", answer, 80)
    return int(user) if inode else None


def user_in_table(client: tuple[str, int], server: tuple[str, int]) -> int | None:
    """Return the same as `user_of`, from the table in /proc/net, for a kernel without tcp_diag. It can take 30 ms."""
    try:
        ends = [(ipaddress.ip_address(host).packed, port) for host, port in (client, server)]
    except ValueError:
        return None
    for fields in _table("tcp" if len(ends[0][0]) == 4 else "tcp6"):
        if [_end(fields[1]), _end(fields[2])] == ends:
            return int(fields[7]) if int(fields[9]) else None
    return None


def _trusted() -> set[int]:
    found = {0, os.geteuid()}
    with contextlib.suppress(KeyError):
        found.add(pwd.getpwnam(SERVICE_USER).pw_uid)
    with contextlib.suppress(KeyError, ValueError):
        found.add(int(os.environ["SUDO_UID"]))
    return found


def _listening(address: str, port: int) -> set[int]:
    """Return the users who listen where a connection to `address` arrives: on that address, otherwise on all addresses."""
    wanted = ipaddress.ip_address(address)
    mapped = wanted.ipv4_mapped if isinstance(wanted, ipaddress.IPv6Address) else wanted
    six = wanted.packed if isinstance(wanted, ipaddress.IPv6Address) else _MAPPED + wanted.packed
    places = [six, bytes(16)]
    if mapped is not None:
        places = [mapped.packed, bytes(4), _MAPPED + mapped.packed, bytes(16)]
    try:
        found = [*_asked(socket.AF_INET, port), *_asked(socket.AF_INET6, port)]
    except OSError:  # a kernel without tcp_diag
        found = [*_read("tcp", port), *_read("tcp6", port)]
    return next((users for place in places if (users := {user for local, user in found if local == place})), set())


def _asked(family: int, port: int) -> Iterator[tuple[bytes, int]]:
    """Yield address and user of each listener on `port`, from the kernel: sock_diag(7). Raises OSError.

    The tables in /proc would take it up to 30 ms: it goes through every possible connection for them.
    """
    question = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, 1 << _LISTEN) + struct.pack("!H46x", port)
    with _diagnosis(question, _REQUEST | _DUMP) as link:
        while True:
            answer = link.recv(1 << 16)
            while len(answer) >= 16:
                length, kind = struct.unpack_from("=IH", answer)
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    raise OSError(-struct.unpack_from("=i", answer, 16)[0], "sock_diag")
                (number,) = struct.unpack_from("!H", answer, 20)
                if number == port:
                    yield answer[24 : 24 + (4 if answer[16] == socket.AF_INET else 16)], struct.unpack_from("=I", answer, 80)[0]
                answer = answer[(length + 3) & ~3 :]


@contextlib.contextmanager
def _diagnosis(question: bytes, flags: int) -> Iterator[socket.socket]:
    """Yield a socket from which the kernel's answers to `question`, a struct inet_diag_req_v2, can be read."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as link:
        link.settimeout(5.0)
        link.sendto(struct.pack("=IHHII", 16 + len(question), _SOCK_DIAG_BY_FAMILY, flags, 1, 0) + question, (0, 0))
        yield link


def _read(name: str, port: int) -> Iterator[tuple[bytes, int]]:
    """Yield the same from a table in /proc/net, where the kernel lists listeners first: proc(5)."""
    for fields in _table(name):
        if int(fields[3], 16) != _LISTEN:
            break
        local, number = _end(fields[1])
        if number == port:
            yield local, int(fields[7])


def _table(name: str) -> Iterator[list[str]]:
    with contextlib.suppress(OSError), open(f"/proc/net/{name}", encoding="ascii") as file:
        next(file, None)
        for line in file:
            yield line.split()


def _end(text: str) -> tuple[bytes, int]:
    """Return address and port of an end of a connection in such a table."""
    local, _, number = text.partition(":")  # 32-bit words in the order of a little-endian host
    return b"".join(bytes.fromhex(local[at : at + 8])[::-1] for at in range(0, len(local), 8)), int(number, 16)
