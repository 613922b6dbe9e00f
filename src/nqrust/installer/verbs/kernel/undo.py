"""Verbs for links, sysctls, modules and firewall rules."""

from __future__ import annotations

from typing import Any

from nqrust.host.errors import CommandFailed, ProgramMissing
from nqrust.host.port import command
from nqrust.installer.engine.verb import Kept, Outcome, Reverted, UndoContext


def link(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Delete a link; what is enslaved to a bridge stays, without it (ip-link(8))."""
    name = str(args["name"])
    if context.host.stat(f"/sys/class/net/{name}") is None:
        return Reverted("already gone")
    if context.host.which("ip") is None:
        return Kept(f"{name} goes at the next boot: the program ip is gone")
    context.host.run(command("ip", "link", "delete", name))
    return Reverted()


def sysctl_path(key: str) -> str:
    """proc(5) path of a key as sysctl(8) writes it. A `/` in the key stands for a dot in an interface's name."""
    return "/proc/sys/" + key.replace(".", "\0").replace("/", ".").replace("\0", "/")


def sysctl(context: UndoContext, args: dict[str, Any]) -> Outcome:
    path = sysctl_path(str(args["key"]))
    if context.host.stat(path) is None:
        return Reverted("already gone")
    now = context.host.read_text(path).strip()
    if now == args["prior"]:
        return Reverted("already as it was")
    if now != args["ours"]:
        return Kept(f"{args['key']} is {now}, which is neither what we set nor what it was")
    context.host.run(command("tee", path, input=f"{args['prior']}\n".encode()))
    return Reverted()


def module(context: UndoContext, args: dict[str, Any]) -> Outcome:
    name = str(args["name"])
    if context.host.stat(f"/sys/module/{name.replace('-', '_')}") is None:
        return Reverted("already gone")
    try:
        context.host.run(command("modprobe", "--remove", name))
    except ProgramMissing:
        return Kept(f"module {name} goes at the next boot: the program modprobe is gone")
    except CommandFailed:
        return Kept(f"module {name} is in use; it goes at the next boot")
    return Reverted()


def rules(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Delete our rules (every copy of each), then our chains. Nothing is ever flushed that is not ours."""
    host, binary = context.host, str(args["binary"])
    if host.which(binary) is None:
        return Reverted(f"{binary} is gone, and with it what it set")
    for table, chain, *spec in args["rules"]:
        while host.run(command(binary, "-w", "-t", table, "-C", chain, *spec, ok=(0, 1, 2))).code == 0:
            host.run(command(binary, "-w", "-t", table, "-D", chain, *spec))
    for table, chain in args["chains"]:
        if host.run(command(binary, "-w", "-t", table, "-S", chain, ok=(0, 1, 2))).code == 0:
            host.run(command(binary, "-w", "-t", table, "-F", chain))
            host.run(command(binary, "-w", "-t", table, "-X", chain))
    return Reverted()


def ruleset(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Fill our chains as they were before a change of theirs, and take out those that came with it."""
    host, binary = context.host, str(args["binary"])
    if host.which(binary) is None:
        return Reverted(f"{binary} is gone, and with it what it set")
    for text in args["prior"].values():
        host.run(command(f"{binary}-restore", "-w", "--noflush", input=str(text).encode()))
    for table, chain, *spec in args["jumps"]:
        if host.run(command(binary, "-w", "-t", table, "-C", chain, *spec, ok=(0, 1, 2))).code != 0:
            host.run(command(binary, "-w", "-t", table, "-I", chain, "1", *spec))
    added = args["added"]
    rules_ = [[table, parent, *jump] for table, parent, _, *jump in added]
    return rules(context, {"binary": binary, "rules": rules_, "chains": [[table, chain] for table, _, chain, *_ in added]})


def bridge(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Make a bridge again that made way for another, marked and addressed as it was. IPv6 stays off on it."""
    host, name = context.host, str(args["name"])
    if host.which("ip") is None:
        return Kept(f"bridge {name} is not made again: the program ip is gone")
    if host.stat(f"/sys/class/net/{name}") is None:
        lines = [f"link add name {name} type bridge", f"link set dev {name} alias {args['alias']}"]
        host.run(command("ip", "-batch", "-", input=("\n".join(lines) + "\n").encode()))
    off = sysctl_path(f"net.ipv6.conf.{name.replace('.', '/')}.disable_ipv6")
    if host.exists(off):
        host.run(command("tee", off, input=b"1\n"))
    for address in args["addresses"]:
        host.run(command("ip", "address", "replace", str(address), "brd", "+", "dev", name))
    host.run(command("ip", "link", "set", "dev", name, "up"))
    return Reverted()


def addresses(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Give a link its earlier addresses again."""
    host, name = context.host, str(args["name"])
    if host.stat(f"/sys/class/net/{name}") is None:
        return Reverted("the link is gone")
    if host.which("ip") is None:
        return Kept(f"{name} keeps its addresses until the next boot: the program ip is gone")
    for address in args["prior"]:
        host.run(command("ip", "address", "replace", str(address), "brd", "+", "dev", name))
    for address in args["ours"]:
        if address not in args["prior"]:  # 2: it is not there
            host.run(command("ip", "address", "del", str(address), "dev", name, ok=(0, 2)))
    return Reverted()
