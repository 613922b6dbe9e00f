"""Two proofs of a new network: its gateways answer, and another machine gets in.

A gateway answers if the kernel resolves its address afresh, by ARP (RFC 826) or neighbour discovery (RFC 4861). A machine gets
in if a listening port has accepted a TCP connection after the change, over the changed link. /proc/net/tcp and tcp6 list it.
"""

from __future__ import annotations

from dataclasses import dataclass

from nqrust.contract.names import MAC_PREFIX
from nqrust.host.errors import HostError, ParseError
from nqrust.host.facts.ports import parse_address
from nqrust.host.port import Host, command
from nqrust.installer.verbs.network.guard.live import objects

_LISTEN = 0x0A  # net/tcp_states.h
_ACCEPTED = {0x01, 0x04, 0x05, 0x06, 0x08, 0x09, 0x0B}
"""States after a complete handshake: ESTABLISHED, and those of a connection that ends. A short one is seen in them only."""
_DISCARD = 9
"""A port to send to. Its answer does not matter: the kernel has to find the neighbour first."""
_UNKNOWN = {"FAILED", "INCOMPLETE", "NONE"}


@dataclass(frozen=True)
class Connection:
    """An inbound TCP connection to a listening port."""

    address: str
    port: int
    peer: str
    peer_port: int


def silent_gateways(host: Host, gateways: tuple[str, ...], devices: tuple[str, ...]) -> tuple[str, ...]:
    """Return the gateways that do not answer, or that no route over one of `devices` uses."""
    return tuple(gateway for gateway in gateways if not _answers(host, gateway, devices))


def inbound(host: Host) -> frozenset[Connection]:
    """Return the connections to ports that listen now. Connections that end are among them."""
    rows = [row for table in ("tcp", "tcp6") for row in parse_table(_text(host, f"/proc/net/{table}"))]
    listening = {one.port for state, one in rows if state == _LISTEN}
    return frozenset(one for state, one in rows if state in _ACCEPTED and one.port in listening)


def fresh_peer(host: Host, before: frozenset[Connection], devices: tuple[str, ...]) -> str:
    """Return the address of another machine that connected since `before`, or an empty string.

    Packets to that machine must leave over one of `devices`: loopback, containers and other NICs prove nothing. A VM of this
    host is no other machine.
    """
    for one in sorted(inbound(host) - before, key=lambda one: (one.peer, one.peer_port)):
        device = _way_to(host, one.peer)
        if device in devices and not _neighbour(host, one.peer, device).startswith(MAC_PREFIX):
            return one.peer
    return ""


def parse_table(text: str) -> list[tuple[int, Connection]]:
    """Parse /proc/net/tcp or tcp6 into state and connection. Lines that do not parse (the header is one) are skipped."""
    found = []
    for line in text.splitlines():
        fields = line.split()
        try:
            (address, port), (peer, peer_port) = (_endpoint(field) for field in fields[1:3])
            found.append((int(fields[3], 16), Connection(address, port, peer, peer_port)))
        except (ValueError, IndexError):
            continue
    return found


def _endpoint(field: str) -> tuple[str, int]:
    address, _, port = field.partition(":")
    return parse_address(address), int(port, 16)


def _answers(host: Host, gateway: str, devices: tuple[str, ...]) -> bool:
    family = "-6" if ":" in gateway else "-4"
    shown = _objects(host, family, "route", "show", "table", "all")
    used = [device for device in devices if any(_leads(route, gateway, device) for route in shown)]
    return any(_resolves(host, gateway, device) for device in used)


def _leads(route: dict[str, object], gateway: str, device: str) -> bool:
    hops = route.get("nexthops")
    return any(
        isinstance(hop, dict) and hop.get("gateway") == gateway and hop.get("dev") == device
        for hop in (route, *(hops if isinstance(hops, list) else ()))
    )


def _resolves(host: Host, gateway: str, device: str) -> bool:
    """Return whether the gateway answers now. Its entry goes first, so that an old answer does not count. That of an
    administrator comes back afterwards."""
    fixed = _neighbour(host, gateway, device, fixed=True)
    host.run(command("ip", "neigh", "del", gateway, "dev", device, ok=(0, 1, 2)))
    try:
        host.connect(f"{gateway}%{device}" if gateway.lower().startswith("fe80:") else gateway, _DISCARD, timeout=1.0)
        return bool(_neighbour(host, gateway, device))
    finally:
        if fixed:
            entry = (gateway, "lladdr", fixed, "dev", device, "nud", "permanent")
            host.run(command("ip", "neigh", "replace", *entry, ok=(0, 1, 2)))


def _neighbour(host: Host, address: str, device: str, *, fixed: bool = False) -> str:
    """Return the link-layer address of a neighbour, empty if it has none. `fixed`: only one that somebody entered."""
    for one in _objects(host, "neigh", "show", "to", address, "dev", device):
        said = one.get("state")
        states = set(said if isinstance(said, list) else ())
        if one.get("lladdr") and not _UNKNOWN & states and (not fixed or "PERMANENT" in states):
            return str(one["lladdr"])
    return ""


def _way_to(host: Host, peer: str) -> str:
    return next((str(one.get("dev", "")) for one in _objects(host, "route", "get", peer)), "")


def _objects(host: Host, *words: str) -> list[dict[str, object]]:
    """Return the objects that `ip -json` prints, none if it fails: a proof that cannot be made is not made."""
    try:
        return [dict(one) for one in objects(host.run(command("ip", "-json", *words, timeout=10)).stdout, "ip")]
    except (HostError, ParseError):
        return []


def _text(host: Host, path: str) -> str:
    try:
        return host.read_text(path)
    except HostError:
        return ""
