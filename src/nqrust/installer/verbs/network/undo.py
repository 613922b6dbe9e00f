"""Undo of links, bridges and their addresses."""

from __future__ import annotations

from typing import Any

from nqrust.contract.names import bridge_mac
from nqrust.host.port import command
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.engine.verb import Kept, Outcome, Reverted, UndoContext
from nqrust.installer.verbs.kernel.undo import sysctl_path


def undo_link(name: str) -> Undo:
    """Delete a network link that nqr created."""
    return Undo("link", {"name": name})


def undo_bridge(name: str, *, alias: str, addresses: list[str]) -> Undo:
    """Recreate nqr's bridge that gave its network to another (addresses in CIDR form)."""
    return Undo("bridge", {"name": name, "alias": alias, "addresses": addresses})


def undo_addresses(name: str, *, prior: list[str], ours: list[str]) -> Undo:
    """Restore a link's earlier IPv4 addresses (CIDR) and remove `ours`."""
    return Undo("addresses", {"name": name, "prior": prior, "ours": ours})


def link(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Delete a link. Ports of a bridge stay, without the bridge (ip-link(8))."""
    name = str(args["name"])
    if context.host.stat(f"/sys/class/net/{name}") is None:
        return Reverted("already gone")
    if context.host.which("ip") is None:
        return Kept(f"{name} goes at the next boot: the program ip is gone")
    context.host.run(command("ip", "link", "delete", name))
    return Reverted()


def bridge(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Recreate a bridge that made way for another, with its alias and addresses. IPv6 stays off on it."""
    host, name = context.host, str(args["name"])
    if host.which("ip") is None:
        return Kept(f"bridge {name} is not made again: the program ip is gone")
    if host.stat(f"/sys/class/net/{name}") is None:
        lines = [f"link add name {name} address {bridge_mac(name)} type bridge", f"link set dev {name} alias {args['alias']}"]
        host.run(command("ip", "-batch", "-", input=("\n".join(lines) + "\n").encode()))
    off = sysctl_path(f"net.ipv6.conf.{name.replace('.', '/')}.disable_ipv6")
    if host.exists(off):
        host.run(command("tee", off, input=b"1\n"))
    for address in args["addresses"]:
        host.run(command("ip", "address", "replace", str(address), "brd", "+", "dev", name))
    host.run(command("ip", "link", "set", "dev", name, "up"))
    return Reverted()


def addresses(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Restore a link's earlier addresses."""
    host, name = context.host, str(args["name"])
    if host.stat(f"/sys/class/net/{name}") is None:
        return Reverted("the link is gone")
    if host.which("ip") is None:
        return Kept(f"{name} keeps its addresses until the next boot: the program ip is gone")
    for address in args["prior"]:
        host.run(command("ip", "address", "replace", str(address), "brd", "+", "dev", name))
    for address in args["ours"]:
        if address not in args["prior"]:  # 2: already gone
            host.run(command("ip", "address", "del", str(address), "dev", name, ok=(0, 2)))
    return Reverted()
