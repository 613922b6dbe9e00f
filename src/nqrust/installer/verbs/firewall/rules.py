"""Firewall rules that are ours by name: own chains, and one jump into each, marked with a comment.

`FirewallSpec` is the one place where the rules stand; the step and the boot script are both made from it.
Rules are written as `iptables -S` prints them, so that comparing is comparing text.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import ClassVar

from nqrust.contract.names import FORWARD_CHAINS
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
from nqrust.installer.verbs.firewall.undo import undo_rules, undo_ruleset

COMMENT = ("-m", "comment", "--comment", "nqrust")
FORWARD, INPUT, POSTROUTING = "NQR-FORWARD", "NQR-INPUT", "NQR-POSTROUTING"
OWN = (("filter", FORWARD, "FORWARD"), ("filter", INPUT, "INPUT"), ("nat", POSTROUTING, "POSTROUTING"), *FORWARD_CHAINS)
"""Table, chain and parent of every chain that a network of ours may have."""
_EXISTS = (0, 1)
_AGAIN = 3


@dataclass(frozen=True)
class Chain:
    """A chain of ours and the built-in one that jumps into it; `rules` in order, without `-A CHAIN`."""

    table: str
    name: str
    parent: str
    rules: tuple[tuple[str, ...], ...]

    @property
    def jump(self) -> tuple[str, ...]:
        return (*COMMENT, "-j", self.name)


@dataclass(frozen=True)
class FirewallSpec:
    """`others`: chains that the agent makes when it needs them, and that go when this network goes."""

    chains: tuple[Chain, ...]
    others: tuple[Chain, ...] = ()

    @property
    def tables(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(chain.table for chain in self.chains))


def vm_network(
    bridge: str,
    subnet: str,
    gateway: str,
    *,
    outside: bool = True,
    masquerade: bool = True,
    dns: bool = False,
    tcp_ports: tuple[int, ...] = (),
) -> FirewallSpec:
    """Rules of a VM network on its own bridge.

    Guests are strangers: to the host they may send DHCP, ping, DNS where the bridge serves it, and
    `tcp_ports` on the gateway's address; nothing else. `outside`: they may reach what lies beyond the host
    (NAT); without it the network is isolated. From beyond only answers come in. The rules let guests of one bridge
    reach each other; the agent isolates their TAPs. `subnet` and `gateway` IPv4.
    """
    to_gateway = ("-d", f"{gateway}/32", "-i", bridge)
    forward: list[tuple[str, ...]] = [("-i", bridge, "-o", bridge, "-j", "ACCEPT")]
    if outside:
        forward += [
            ("-s", subnet, "-i", bridge, "-j", "ACCEPT"),
            (
                "-d",
                subnet,
                "-o",
                bridge,
                "-m",
                "conntrack",
                "--ctstate",
                "RELATED,ESTABLISHED",
                "-j",
                "ACCEPT",
            ),
        ]
    forward += [("-i", bridge, "-j", "DROP"), ("-o", bridge, "-j", "DROP")]
    inbound: list[tuple[str, ...]] = [
        ("-i", bridge, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"),
        ("-i", bridge, "-p", "udp", "-m", "udp", "--sport", "68", "--dport", "67", "-j", "ACCEPT"),
        (*to_gateway, "-p", "icmp", "-m", "icmp", "--icmp-type", "8", "-j", "ACCEPT"),
    ]
    if dns:
        inbound += [(*to_gateway, "-p", p, "-m", p, "--dport", "53", "-j", "ACCEPT") for p in ("udp", "tcp")]
    inbound += [(*to_gateway, "-p", "tcp", "-m", "tcp", "--dport", str(port), "-j", "ACCEPT") for port in tcp_ports]
    inbound.append(("-i", bridge, "-j", "DROP"))
    chains = [
        Chain("filter", FORWARD, "FORWARD", tuple(forward)),
        Chain("filter", INPUT, "INPUT", tuple(inbound)),
    ]
    if outside and masquerade:
        hide = ("-s", subnet, "!", "-d", subnet, "!", "-o", bridge, "-j", "MASQUERADE")
        chains.append(Chain("nat", POSTROUTING, "POSTROUTING", (hide,)))
    others = tuple(Chain(table, name, parent, ()) for table, name, parent in FORWARD_CHAINS) if outside else ()
    return FirewallSpec(tuple(chains), others)


# --- as text


def restore_text(spec: FirewallSpec, table: str) -> str:
    """Input of `iptables-restore --noflush`: naming a chain empties it, so it is refilled in one
    transaction."""
    chains = [chain for chain in spec.chains if chain.table == table]
    lines = [f"*{table}", *(f":{chain.name} - [0:0]" for chain in chains)]
    lines += [f"-A {chain.name} {' '.join(rule)}" for chain in chains for rule in chain.rules]
    return "\n".join([*lines, "COMMIT", ""])


def render_up(spec: FirewallSpec, binary: str = "iptables") -> list[str]:
    """Shell lines that put the rules in place; run twice they change nothing."""
    lines = []
    for table in spec.tables:
        lines += [
            f"{binary}-restore -w --noflush <<'RULES'",
            *restore_text(spec, table).splitlines(),
            "RULES",
        ]
    for chain in spec.chains:
        ours = f"-t {chain.table}"
        jump = shlex.join(chain.jump)
        lines.append(f"{binary} -w {ours} -C {chain.parent} {jump} 2>/dev/null || {binary} -w {ours} -I {chain.parent} 1 {jump}")
    return lines


def render_down(spec: FirewallSpec, binary: str = "iptables") -> list[str]:
    """Shell lines that take the rules out again; fine when they are not there."""
    lines = []
    for chain in reversed((*spec.chains, *spec.others)):
        ours = f"-t {chain.table}"
        jump = shlex.join(chain.jump)
        lines.append(f"while {binary} -w {ours} -D {chain.parent} {jump} 2>/dev/null; do :; done")
        lines.append(f"{binary} -w {ours} -F {chain.name} 2>/dev/null || :")
        lines.append(f"{binary} -w {ours} -X {chain.name} 2>/dev/null || :")
    return lines


def parse_rules(text: str) -> dict[str, list[tuple[str, ...]]]:
    """Chain -> its rules, from `iptables -S` (`-A CHAIN ...`, `-N CHAIN`, `-P CHAIN POLICY`)."""
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
    """`binary`: iptables, or the variant that this host's other rules use (iptables-nft, iptables-legacy).

    Where our jump stands among rules of others does not matter to `inspect`, only that it is there exactly
    once: Docker and others put theirs first whenever they start."""

    kind: ClassVar[str] = "firewall"

    spec: FirewallSpec
    binary: str = "iptables"

    @property
    def id(self) -> str:
        return "firewall:iptables"

    def describe(self) -> str:
        return f"add firewall chains {', '.join(chain.name for chain in self.spec.chains)}"

    def inspect(self, host: Host) -> Inspection:
        if host.which(self.binary) is None:
            return Needed(tuple(f"+ {line}" for line in self._all_lines()))
        diff: list[str] = []
        for table in self._tables:
            now = self._now(host, table)
            diff += [f"- chain {name}" for former, name, parent in self._former(now, table)]
            for chain in self.spec.chains:
                if chain.table == table:
                    if _is_anothers(chain, now):
                        return Conflict(
                            "NQR-NET-111",
                            f"There is a firewall chain {chain.name} already, with rules that are not ours.",
                            f"Rename it (iptables -t {table} -E {chain.name} NAME), or remove it if nothing needs it, then"
                            " run the same command again.",
                        )
                    diff += _chain_diff(chain, now)
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
        try:
            for table in self.spec.tables:
                text = restore_text(self.spec, table).encode()
                host.run(command(f"{self.binary}-restore", "-w", "--noflush", input=text))
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
        """Other software may write rules at the same moment (the boot script after a reboot): then once more."""
        for _ in range(_AGAIN):
            if not isinstance(self.inspect(host), Needed):
                break
            host.sleep(0.5)
            self.apply(host)
        verify_by_inspection(self, host)

    # --- chains of ours that these rules no longer have
    @property
    def _tables(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.spec.tables, *(table for table, _, _ in OWN))))

    def _now(self, host: Host, table: str) -> dict[str, list[tuple[str, ...]]]:
        # A kernel may lack a table that these rules do not use.
        ok = (0,) if table in self.spec.tables else (0, 1, 2, 3)
        return parse_rules(host.run(command(self.binary, "-w", "-t", table, "-S", ok=ok)).stdout)

    def _former(self, now: dict[str, list[tuple[str, ...]]], table: str) -> list[tuple[str, str, str]]:
        asked = {(c.table, c.name) for c in (*self.spec.chains, *self.spec.others)}
        ours = [own for own in OWN if own[0] == table and own[:2] not in asked]
        # An empty one without a jump is what `_drop` leaves when it is cut off.
        return [own for own in ours if Chain(*own, ()).jump in now.get(own[2], []) or now.get(own[1]) == []]

    def _drop(self, host: Host, chain: Chain) -> None:
        base = (self.binary, "-w", "-t", chain.table)
        host.run(command(*base, "-F", chain.name))
        while host.run(command(*base, "-D", chain.parent, *chain.jump, ok=_EXISTS)).code == 0:
            pass
        host.run(command(*base, "-X", chain.name))

    def _undo_change(self, now: dict[str, dict[str, list[tuple[str, ...]]]]) -> Undo:
        """Back to the rules of now: every chain of ours that has its jump."""
        known = {(c.table, c.name, c.parent) for c in self.spec.chains} | set(OWN)
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
        for _ in range(now.count(chain.jump) - 1):
            host.run(command(*base, "-D", chain.parent, *chain.jump, ok=_EXISTS))
        if chain.jump not in now:
            host.run(command(*base, "-I", chain.parent, "1", *chain.jump))

    def _all_lines(self) -> list[str]:
        return [f"{chain.name} {' '.join(rule)}" for chain in self.spec.chains for rule in chain.rules]


def _is_anothers(chain: Chain, now: dict[str, list[tuple[str, ...]]]) -> bool:
    """Ours has our jump, or (cut off before that) our rules."""
    return chain.jump not in now.get(chain.parent, []) and any(rule not in chain.rules for rule in now.get(chain.name, []))


def _chain_diff(chain: Chain, now: dict[str, list[tuple[str, ...]]]) -> list[str]:
    have = now.get(chain.name)
    diff: list[str] = []
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
