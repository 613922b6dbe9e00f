"""Firewall rules that nqr owns by name: its own chains, and one jump into each, marked with a comment.

`FirewallSpec` is the single source of the rules, for the step and the boot script. Rules have the form of `iptables -S`, so
text comparison is enough.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import ClassVar

from nqrust.contract.names import FORWARD_CHAINS, ROUTED_CHAIN
from nqrust.host.errors import CommandFailed, HostError
from nqrust.host.port import Host, command
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import (
    Conflict,
    Inspection,
    Needed,
    Origin,
    Prepared,
    Satisfied,
    verify_by_inspection,
)
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.verbs.firewall.kernel import BOUNDS, lacks_bounds, why_no_ipv6
from nqrust.installer.verbs.firewall.undo import goes_last, place, undo_rules, undo_ruleset

COMMENT = ("-m", "comment", "--comment", "nqrust")
FORWARD, INPUT, POSTROUTING = "NQR-FORWARD", "NQR-INPUT", "NQR-POSTROUTING"
_OWN_OF_BOTH = (("filter", FORWARD, "FORWARD"), ("filter", INPUT, "INPUT"))
OWN = {
    "iptables": (*_OWN_OF_BOTH, ("nat", POSTROUTING, "POSTROUTING"), ("filter", ROUTED_CHAIN, "FORWARD"), *FORWARD_CHAINS),
    "ip6tables": _OWN_OF_BOTH,
}
"""Table, chain and parent of every chain that the VM network may have, by the program that sets it."""
_EXISTS = (0, 1)
_AGAIN = 3
ALONE = 10  # seconds that nqr and the boot script wait for each other at most: any user may hold a lock


@dataclass(frozen=True)
class Chain:
    """One of nqr's chains and the built-in chain that jumps into it; `rules` in order, without `-A CHAIN`."""

    table: str
    name: str
    parent: str
    rules: tuple[tuple[str, ...], ...]

    @property
    def last(self) -> bool:
        return goes_last(self.name)

    @property
    def jump(self) -> tuple[str, ...]:
        return (*COMMENT, "-j", self.name)


@dataclass(frozen=True)
class FirewallSpec:
    """`others`: chains that the agent makes when it needs them, and that go when this network goes. `program`: iptables, or
    ip6tables for rules of IPv6."""

    chains: tuple[Chain, ...]
    others: tuple[Chain, ...] = ()
    program: str = "iptables"

    @property
    def tables(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(chain.table for chain in self.chains))

    @property
    def ipv6(self) -> bool:
        return self.program == "ip6tables"

    def without_bounds(self) -> FirewallSpec:
        """The same for a kernel that lacks a match of `BOUNDS`."""
        return replace(self, chains=tuple(replace(chain, rules=unbounded(chain.rules)) for chain in self.chains))


def unbounded(rules: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    return tuple(rule for rule in rules if not set(BOUNDS) & set(rule))


# --- as text


def restore_text(spec: FirewallSpec, table: str) -> str:
    """Return input of `iptables-restore --noflush`. Naming a chain empties it, so one transaction refills it."""
    chains = [chain for chain in spec.chains if chain.table == table]
    lines = [f"*{table}", *(f":{chain.name} - [0:0]" for chain in chains)]
    lines += [f"-A {chain.name} {' '.join(rule)}" for chain in chains for rule in chain.rules]
    return "\n".join([*lines, "COMMIT", ""])


def parse_rules(text: str) -> dict[str, list[tuple[str, ...]]]:
    """Return chain -> rules from `iptables -S` (`-A CHAIN ...`, `-N CHAIN`, `-P CHAIN POLICY`)."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for line in text.splitlines():
        words = shlex.split(line)
        if len(words) >= 2 and words[0] in ("-N", "-P"):
            found.setdefault(words[1], [])
        elif len(words) >= 2 and words[0] == "-A":
            found.setdefault(words[1], []).append(tuple(words[2:]))
    return found


# --- the step


@dataclass(frozen=True)
class IptablesRules:
    """Where our jump stands among rules of others does not matter to `inspect`, only that it is there exactly
    once: Docker and others put theirs first whenever they start.

    Rules of IPv6 are not set on a host that cannot have them, and bounds not by a kernel that lacks their matches; the
    proofs (`proofs/standing.py`) tell that."""

    kind: ClassVar[str] = "firewall"

    spec: FirewallSpec
    script: str = ""
    """The boot script, which sets the same rules and holds the lock of its own file meanwhile."""

    @property
    def binary(self) -> str:
        return self.spec.program

    @property
    def id(self) -> str:
        return f"firewall:{self.binary}"

    def describe(self) -> str:
        what = f"add firewall chains {', '.join(chain.name for chain in self.spec.chains)}"
        return f"{what} for IPv6" if self.spec.ipv6 else what

    def inspect(self, host: Host) -> Inspection:
        reason = why_no_ipv6(host) if self.spec.ipv6 else ""
        if reason:
            return Satisfied(reason)
        if host.which(self.binary) is None:
            return Needed(tuple(f"+ {line}" for line in self._all_lines()))
        diff: list[str] = []
        lacking = lacks_bounds(host)
        for table in self._tables:
            now = self._now(host, table)
            diff += [f"- chain {name}" for former, name, parent in self._former(now, table)]
            for chain in self.spec.chains:
                if chain.table == table:
                    if _is_anothers(chain, now):
                        return Conflict(
                            "NQR-NET-111",
                            f"There is a firewall chain {chain.name} already, with rules that are not ours.",
                            f"Rename it ({self.binary} -t {table} -E {chain.name} NAME), or remove it if nothing needs it, then"
                            " run the same command again.",
                        )
                    diff += _chain_diff(chain, now, lacking)
        return Needed(tuple(diff)) if diff else Satisfied()

    def prepare(self, host: Host) -> Prepared:
        now = {table: self._now(host, table) for table in self._tables} if host.which(self.binary) else {}
        if any(chain.jump in now[chain.table].get(chain.parent, []) for chain in self.spec.chains if chain.table in now):
            return Prepared(Origin.modified, (self._undo_change(now),))
        all_chains = (*self.spec.chains, *self.spec.others)
        jumps = [[chain.table, chain.parent, *chain.jump] for chain in all_chains]
        chains = [[chain.table, chain.name] for chain in all_chains]
        return Prepared(Origin.created, (undo_rules(self.binary, jumps, chains),))

    def apply(self, host: Host) -> None:
        with host.locked(self.script, ALONE):
            self._set(host)

    def _set(self, host: Host) -> None:
        try:
            for table in self.spec.tables:
                self._fill(host, table)
            for chain in self.spec.chains:
                self._jump_once(host, chain)
            for table in self._tables:
                for _, name, parent in self._former(self._now(host, table), table):
                    self._drop(host, Chain(table, name, parent, ()))
        except HostError as error:
            raise StepFailed(
                "NQR-NET-110",
                f"The firewall rules for the VM network could not be set: {_reason(error)}.",
                "See which firewall this kernel supports (iptables -S, nft list ruleset must work), then run the same"
                " command again.",
            ) from error

    def verify(self, host: Host) -> None:
        """Check the rules, and put them right again: other software may write rules at the same moment."""
        for _ in range(_AGAIN):
            found = self.inspect(host)
            if isinstance(found, Satisfied):
                return
            if isinstance(found, Needed):  # a chain of somebody else is not ours to fill
                host.sleep(0.5)
                self.apply(host)
        verify_by_inspection(self, host)

    def _fill(self, host: Host, table: str) -> None:
        text, less = (restore_text(spec, table) for spec in (self.spec, self.spec.without_bounds()))
        try:
            host.run(command(f"{self.binary}-restore", "-w", "--noflush", input=text.encode()))
        except CommandFailed:
            if less == text:
                raise
            host.run(command(f"{self.binary}-restore", "-w", "--noflush", input=less.encode()))

    # --- nqr chains that these rules no longer have
    @property
    def _tables(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.spec.tables, *(table for table, _, _ in OWN[self.binary]))))

    def _now(self, host: Host, table: str) -> dict[str, list[tuple[str, ...]]]:
        # A kernel may lack a table that these rules do not use.
        ok = (0,) if table in self.spec.tables else (0, 1, 2, 3)
        return parse_rules(host.run(command(self.binary, "-w", "-t", table, "-S", ok=ok)).stdout)

    def _former(self, now: dict[str, list[tuple[str, ...]]], table: str) -> list[tuple[str, str, str]]:
        asked = {(c.table, c.name) for c in (*self.spec.chains, *self.spec.others)}
        ours = [own for own in OWN[self.binary] if own[0] == table and own[:2] not in asked]
        # An interrupted `_drop` leaves an empty one without a jump.
        return [own for own in ours if Chain(*own, ()).jump in now.get(own[2], []) or now.get(own[1]) == []]

    def _drop(self, host: Host, chain: Chain) -> None:
        base = (self.binary, "-w", "-t", chain.table)
        host.run(command(*base, "-F", chain.name))
        while host.run(command(*base, "-D", chain.parent, *chain.jump, ok=_EXISTS)).code == 0:
            pass
        host.run(command(*base, "-X", chain.name))

    def _undo_change(self, now: dict[str, dict[str, list[tuple[str, ...]]]]) -> Undo:
        """Back to the rules of now: every chain of nqr that has its jump."""
        known = {(c.table, c.name, c.parent) for c in self.spec.chains} | set(OWN[self.binary])
        there = [
            Chain(table, name, parent, tuple(now[table].get(name, ())))
            for table, name, parent in sorted(known)
            if Chain(table, name, parent, ()).jump in now.get(table, {}).get(parent, [])
        ]
        before = FirewallSpec(tuple(there))
        kept = {(c.table, c.name) for c in there}
        return undo_ruleset(
            self.binary,
            prior={table: restore_text(before, table) for table in before.tables},
            jumps=[[c.table, c.parent, *c.jump] for c in there],
            added=[
                [c.table, c.parent, c.name, *c.jump]
                for c in (*self.spec.chains, *self.spec.others)
                if (c.table, c.name) not in kept
            ],
        )

    def _jump_once(self, host: Host, chain: Chain) -> None:
        base = (self.binary, "-w", "-t", chain.table)
        now = parse_rules(host.run(command(*base, "-S", chain.parent)).stdout).get(chain.parent, [])
        stands = chain.jump in now and (not chain.last or now[-1] == chain.jump)
        for _ in range(now.count(chain.jump) - stands):
            host.run(command(*base, "-D", chain.parent, *chain.jump, ok=_EXISTS))
        if not stands:
            host.run(command(*base, *place(chain.parent, chain.name), *chain.jump))

    def _all_lines(self) -> list[str]:
        return [f"{chain.name} {' '.join(rule)}" for chain in self.spec.chains for rule in chain.rules]


def _is_anothers(chain: Chain, now: dict[str, list[tuple[str, ...]]]) -> bool:
    """Return whether the chain is foreign. nqr's chain has its jump, or (if interrupted earlier) its rules."""
    return chain.jump not in now.get(chain.parent, []) and any(rule not in chain.rules for rule in now.get(chain.name, []))


def _chain_diff(chain: Chain, now: dict[str, list[tuple[str, ...]]], lacking: tuple[str, ...]) -> list[str]:
    have = now.get(chain.name)
    diff: list[str] = []
    if lacking and have is not None and tuple(have) == unbounded(chain.rules):
        chain = replace(chain, rules=tuple(have))
    if have is None or tuple(have) != chain.rules:
        diff += [f"- {chain.name} {' '.join(rule)}" for rule in have or [] if rule not in chain.rules]
        diff += [f"+ {chain.name} {' '.join(rule)}" for rule in chain.rules if rule not in (have or [])]
        diff = diff or [f"{chain.name}: rules in another order"]
    jumps = now.get(chain.parent, []).count(chain.jump)
    if jumps != 1:
        diff.append(f"+ jump {chain.parent} -> {chain.name}" if not jumps else f"- {jumps - 1} extra jumps to {chain.name}")
    return diff


def _reason(error: HostError) -> str:
    if isinstance(error, CommandFailed):
        lines = [line.strip() for line in error.stderr.splitlines() if line.strip()]
        return (lines or [str(error)])[0].rstrip(".")
    return str(error).rstrip(".")
