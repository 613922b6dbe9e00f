"""Undo of links, bridges and their addresses."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from typing import Any

from nqrust.contract import names as product
from nqrust.contract.names import bridge_mac
from nqrust.host.errors import HostError
from nqrust.host.port import Host, command
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.engine.verb import Kept, Outcome, Reverted, UndoContext
from nqrust.installer.supervisor.alarm import Alarms
from nqrust.installer.supervisor.registry import alarms_of
from nqrust.installer.verbs.kernel.undo import sysctl_path
from nqrust.installer.verbs.network import leases
from nqrust.installer.verbs.network.giving_back import manager_answers, other_port
from nqrust.installer.verbs.network.guard import folder
from nqrust.installer.verbs.network.guard.arming import forget
from nqrust.installer.verbs.network.guard.change import NetworkChange, file_change
from nqrust.installer.verbs.network.guard.guarding import give_up, guarded
from nqrust.installer.verbs.network.guard.live import live_state, master


def undo_link(name: str) -> Undo:
    """Delete a network link that nqr created."""
    return Undo("link", {"name": name})


def undo_bridge(name: str, *, alias: str, addresses: list[str]) -> Undo:
    """Recreate nqr's bridge that gave its network to another (addresses in CIDR form)."""
    return Undo("bridge", {"name": name, "alias": alias, "addresses": addresses})


def undo_addresses(name: str, *, prior: list[str], ours: list[str]) -> Undo:
    """Restore a link's earlier IPv4 addresses (CIDR) and remove `ours`."""
    return Undo("addresses", {"name": name, "prior": prior, "ours": ours})


def undo_card(change: NetworkChange, *, alarms: Alarms, window: int, folders: tuple[str, ...] = ()) -> Undo:
    """Give a card that nqr put into a bridge back to its network manager, under guard. `alarms`: of the guard. `window`: seconds.
    `folders`: folders that the change makes, parents first."""
    files = [
        {
            "path": one.path,
            "before": None if one.before is None else base64.b64encode(one.before).decode(),
            "mode": one.mode,
            "sha256": hashlib.sha256(one.after or b"").hexdigest(),
        }
        for one in change.files
    ]
    return Undo(
        "card",
        {
            "link": change.link,
            "bridge": change.bridge,
            "files": files,
            "load": [list(argv) for argv in change.load],
            "restore": [list(argv) for argv in change.restore],
            **({"again": [list(argv) for argv in change.again]} if change.again else {}),
            **({"early": [list(argv) for argv in change.early]} if change.early else {}),
            "gateways": list(change.gateways),
            **alarms.undo_arguments(),
            "window": window,
            "folders": list(folders),
        },
    )


def link(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Delete a link. Ports of a bridge stay, without the bridge (ip-link(8)). A link without nqr's alias is another one of that
    name, which may carry the host's addresses."""
    name = str(args["name"])
    if context.host.stat(f"/sys/class/net/{name}") is None:
        return Reverted("already gone")
    alias = f"/sys/class/net/{name}/ifalias"
    if context.host.exists(alias) and context.host.read_text(alias).strip() != product.PRODUCT:
        return Kept(f"{name} is another interface now")
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


def card(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Give the card back, under guard. The card stays in the bridge if somebody changed or removed a file of the change since, or
    put a port of their own into the bridge.

    A guard that a killed run left fires first, or goes if it was not armed yet. Raises StepFailed, HostError.
    """
    host, name, bridge = context.host, str(args["link"]), str(args["bridge"])
    alarms = alarms_of(args["supervisor"], args.get("programs_dir"))
    if folder.state(host) in folder.PENDING:
        give_up(host, name, alarms)
    forget(host, alarms)
    lasting = [one for one in args["files"] if not leases.is_lease(one["path"])]
    paths = [str(one["path"]) for one in args["files"]]
    if all(_is_old(host, one) for one in lasting):
        if master(host, name) == bridge:
            return Kept(f"the files of nqr are gone, so {name} stays in {bridge}")
        if host.stat(f"/sys/class/net/{bridge}") is None:
            for one in args["files"]:
                if one["before"] is None and leases.is_lease(one["path"]):
                    host.remove(one["path"])
        _remove_empty(host, args)
        return Reverted("already given back")
    for one in lasting:
        if not _is_old(host, one) and not _is_ours(host, one):
            return Kept(f"{one['path']} was changed since, so {name} stays in {bridge}", str(one["path"]))
    if host.which("ip") is None:
        return Kept(f"{name} stays in {bridge}: the program ip is gone")
    if host.stat(f"/sys/class/net/{name}") is None:
        return Kept(f"{name} is not there any more, so the files of {bridge} stay")
    port = other_port(host, bridge, name)
    if port:
        return Kept(f"{port} is in {bridge} too, so {name} stays there")
    manager_answers(host, name, args["restore"])
    live = live_state(host, name, bridge if host.stat(f"/sys/class/net/{bridge}") is not None else name)
    change = NetworkChange(
        link=name,
        bridge=bridge,
        files=(
            *(file_change(host, one["path"], _before(one), mode=one["mode"]) for one in args["files"]),
            *leases.back(host, paths, name, bridge),
        ),
        load=tuple(tuple(argv) for argv in args["restore"]),
        restore=tuple(tuple(argv) for argv in args.get("again", args["load"])),
        live=live,
        gateways=_still_used(tuple(args["gateways"]), live.gateways),
        early=tuple(tuple(argv) for argv in args.get("early", ())),
    )
    guarded(host, change, alarms, window=args["window"], tell=context.tell)
    _remove_empty(host, args)
    return Reverted()


def _still_used(recorded: tuple[str, ...], now: tuple[str, ...]) -> tuple[str, ...]:
    """Return the recorded gateways that are in use now. If the LAN has others since, return these. A default route that somebody
    added besides is not the network manager's, and would not come back."""
    still = tuple(one for one in recorded if one in now)
    return still or (now or recorded if recorded else ())


def _remove_empty(host: Host, args: dict[str, Any]) -> None:
    """Remove the folders that the change made. One with other content stays."""
    for path in reversed(args.get("folders", ())):
        with contextlib.suppress(HostError):
            host.rmdir(path)


def holds_card(host: Host, args: dict[str, Any]) -> bool:
    """Return whether the files of a record `card` are as nqr wrote them. If so, the bridge is nqr's, and not an
    administrator's. An alias would not tell: network managers set none, and anybody can."""
    files = [one for one in args["files"] if not leases.is_lease(one["path"])]
    return all(_is_ours(host, one) for one in files)


def _before(one: dict[str, Any]) -> bytes | None:
    return None if one["before"] is None else base64.b64decode(one["before"])


def _is_old(host: Host, one: dict[str, Any]) -> bool:
    if not host.exists(one["path"]):
        return one["before"] is None
    return host.read_bytes(one["path"]) == _before(one)


def _is_ours(host: Host, one: dict[str, Any]) -> bool:
    return host.exists(one["path"]) and host.sha256(one["path"]) == one["sha256"]
