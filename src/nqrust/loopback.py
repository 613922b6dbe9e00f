"""Tells who listens on a loopback port. Any user may listen on a free port above 1023, also while a service restarts.

So before a program sends a token to loopback in plain text, it looks whose listener is there: only root's, its own, that of the
service user, and that of the person behind sudo(8) are trusted.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import pwd

SERVICE_USER = "nqrust"
"""The manager's user."""
_LISTEN = "0A"  # net/tcp_states.h


class Impostor(ConnectionError):
    """The program that listens belongs to a user who is not trusted. Nothing was sent to it."""


def is_local(host: str) -> bool:
    """Return whether an address, or the name `localhost`, is this machine's loopback."""
    bare = host.removeprefix("::ffff:").strip("[]")
    return bare == "localhost" or bare.startswith("127.") or bare == "::1"


def check(host: str, port: int, *, connected: bool = False) -> None:
    """Raise Impostor if a user who is not trusted listens at `host`, a loopback address. `connected`: somebody must listen there.

    Check before and after connecting: a listener that is replaced between must be trusted both times.
    """
    for address in ("127.0.0.1", "::1") if host == "localhost" else (host.strip("[]"),):
        users = _listening(address, port)
        strange = sorted(users - _trusted())
        if strange:
            raise Impostor(f"a program of user {strange[0]} listens at {host}:{port}, and nothing was sent to it")
        if connected and not users:
            raise Impostor(f"it cannot be told who listens at {host}:{port}, and nothing was sent there")


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
    six = _kernels(wanted if isinstance(wanted, ipaddress.IPv6Address) else ipaddress.IPv6Address(f"::ffff:{wanted}"))
    places = [("tcp6", six), ("tcp6", "0" * 32)]
    if isinstance(mapped, ipaddress.IPv4Address):
        places = [("tcp", _kernels(mapped)), ("tcp", "0" * 8), *places]
    tables = {name: _table(name, port) for name in ("tcp", "tcp6")}
    return next((users for name, local in places if (users := tables[name].get(local))), set())


def _kernels(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Return an address as proc(5) prints it: 32-bit words in the order of a little-endian host."""
    data = address.packed
    return "".join(data[at : at + 4][::-1].hex() for at in range(0, len(data), 4)).upper()


def _table(name: str, port: int) -> dict[str, set[int]]:
    """Return local address -> users, of the listeners on `port`. The kernel lists listeners first."""
    found: dict[str, set[int]] = {}
    with contextlib.suppress(OSError), open(f"/proc/net/{name}", encoding="ascii") as file:
        next(file, None)
        for line in file:
            fields = line.split()
            if fields[3] != _LISTEN:
                break
            local, _, number = fields[1].partition(":")
            if int(number, 16) == port:
                found.setdefault(local, set()).add(int(fields[7]))
    return found
