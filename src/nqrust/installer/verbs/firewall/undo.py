"""Undo of firewall rules and chains."""

from __future__ import annotations

from typing import Any

from nqrust.host.port import command
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.engine.verb import Outcome, Reverted, UndoContext

_ABSENT = (0, 1, 2, 3)
"""iptables(8): not there, or 3: not even the table."""


def undo_ruleset(binary: str, *, prior: dict[str, str], jumps: list[list[str]], added: list[list[str]]) -> Undo:
    """Restore the previous rules of nqr's chains: `prior` as table -> input of iptables-restore(8), `jumps` as [table, chain,
    *spec]. Remove `added` chains, as [table, parent, chain, *jump]."""
    return Undo("ruleset", {"binary": binary, "prior": prior, "jumps": jumps, "added": added})


def undo_rules(binary: str, rules: list[list[str]], chains: list[list[str]]) -> Undo:
    """Delete nqr's firewall rules and chains: `rules` as [table, chain, *spec], `chains` as [table, chain]."""
    return Undo("rules", {"binary": binary, "rules": rules, "chains": chains})


def rules(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Delete nqr's rules (every copy of each), then its chains. Never flushes other rules."""
    host, binary = context.host, str(args["binary"])
    if host.which(binary) is None:
        return Reverted(f"{binary} is gone, and with it what it set")
    for table, chain, *spec in args["rules"]:
        while host.run(command(binary, "-w", "-t", table, "-C", chain, *spec, ok=_ABSENT)).code == 0:
            host.run(command(binary, "-w", "-t", table, "-D", chain, *spec))
    for table, chain in args["chains"]:
        if host.run(command(binary, "-w", "-t", table, "-S", chain, ok=_ABSENT)).code == 0:
            host.run(command(binary, "-w", "-t", table, "-F", chain))
            host.run(command(binary, "-w", "-t", table, "-X", chain))
    return Reverted()


def ruleset(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Restore the previous rules of nqr's chains, and remove chains that the change added."""
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
