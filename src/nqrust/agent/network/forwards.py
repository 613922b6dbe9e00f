"""Port forwards: ports of this host that lead to a VM's, through nqr's own chains. iptables(8), iptables-extensions(8).

The chains mirror the records on disk. The agent rewrites them when the two differ: after a restart of the agent or the host,
or after a flush. It removes them with the last forward. Only guests of a NAT network have forwards.

A machine beyond and the VM could fill the host's table of connections together. So what one VM takes through its forwards is bounded,
as what it begins itself is (installer/verbs/firewall/vm_network.py).

Connections of a forward that goes end with it. A client that keeps sending would not reach the VM that has the port now.
"""

from __future__ import annotations

import itertools
import shlex
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nqrust.agent.errors import Failed, Refused
from nqrust.agent.network.connections import Ends
from nqrust.agent.settings import Network
from nqrust.agent.store import VmRecord
from nqrust.contract.agent import VmSpec
from nqrust.contract.names import FORWARD_CHAIN, FORWARD_CHAINS, FORWARD_LOCAL_CHAIN, FORWARD_NAT_CHAIN, PLATFORM_PORTS
from nqrust.contract.text import joined
from nqrust.contract.vms import PortForward
from nqrust.host.errors import CommandFailed, HostError
from nqrust.host.facts.ports import parse_sockets
from nqrust.host.port import Connections, Host, command

_JUMP = ("-m", "comment", "--comment", "nqrust", "-j")
A_SECOND, AT_ONCE, OPEN = 300, 1000, 4096
"""Connections that one VM takes through its forwards: new ones a second and at once, and open ones."""
_RATE, _OPEN = "hashlimit", "connlimit"
Rules = dict[str, list[tuple[str, ...]]]


@dataclass(frozen=True)
class Forward:
    """One port of the host, and its VM."""

    vm_id: str
    ip: str
    port: PortForward


class Forwards:
    """`records` returns the records on disk. It runs under a lock, so that the last writer also writes the last chains.

    `reserved`: TCP ports that cannot be forwarded.
    """

    def __init__(
        self,
        host: Host,
        network: Network,
        records: Callable[[], Iterable[VmRecord]],
        reserved: frozenset[int] = PLATFORM_PORTS,
    ) -> None:
        self._host, self._network, self._records, self._reserved = host, network, records, reserved
        self._lock = threading.Lock()
        self.connections = Ends(host)
        self.lacking = ""
        """Why this kernel cannot bound them; empty when it can. They work without."""
        self._ended: set[Connections] = set()  # those of forwards that are gone, until the kernel was asked

    def check(self, spec: VmSpec, before: VmRecord | None) -> None:
        """Raise Refused if this host cannot set up the forwards in `spec`."""
        if not spec.forwards:
            return
        if self._network.mode != "nat" or spec.ip is None:
            raise Refused(
                "NQR-NET-704",
                f"This host's VM network is {self._network.mode}: ports can be forwarded through NAT only.",
                "Reach the VM at its own address, or place it on a host with a NAT network.",
            )
        taken = {
            (port.protocol, port.host_port): record.name
            for record in self._records()
            if record.id != spec.id
            for port in record.forwards
        }
        known = {(port.protocol, port.host_port) for port in before.forwards} if before else set()
        held = self._listening()
        for port in spec.forwards:
            key = (port.protocol, port.host_port)
            if key in taken:
                raise Refused(
                    "NQR-NET-705", f"{_named(port)} of this host is forwarded to VM {taken[key]} already.", "Choose another port."
                )
            if port.protocol == "tcp" and port.host_port in self._reserved and key not in known:
                raise Refused(
                    "NQR-NET-706", f"{_named(port)} of this host is kept for the platform and for SSH.", "Choose another port."
                )
            if key in held and key not in known:
                raise Refused(
                    "NQR-NET-706",
                    f"{_named(port)} of this host is in use by a program on it.",
                    "Choose another port, or stop that program (`ss -lntup` names it).",
                )

    def sync(self) -> bool:
        """Bring the chains in line with the records. Return whether anything changed. Raises Failed."""
        if self._network.mode != "nat":
            return False
        with self._lock:
            wanted = [
                Forward(record.id, record.ip, port)
                for record in self._records()
                if record.asked == "run" and record.ip
                for port in record.forwards
            ]
            try:
                return self._draw(rules(self._network.bridge, wanted) if wanted else {})
            except HostError as error:
                raise Failed(
                    "NQR-NET-707",
                    f"The port forwards could not be set ({error}).",
                    "Check the rules with `iptables -S`, then run `nqr doctor`.",
                ) from error

    def _draw(self, wanted: Rules) -> bool:
        if self._host.which("iptables") is None and not wanted:
            return False
        changed, self.lacking = False, ""
        for table in dict.fromkeys(table for table, _, _ in FORWARD_CHAINS):
            now = parse_rules(self._host.run(command("iptables", "-w", "-t", table, "-S")).stdout)
            chains = [(chain, parent) for other, chain, parent in FORWARD_CHAINS if other == table]
            lost = set(now.get(FORWARD_NAT_CHAIN, [])) - set(wanted.get(FORWARD_NAT_CHAIN, []))
            self._ended |= {found for rule in lost if (found := _led(rule))}
            changed |= bool(wanted) and self._fill(table, [chain for chain, _ in chains], wanted, now)
            for chain, parent in chains:
                if wanted and not _jumps_first(now.get(parent, []), chain):
                    self._unhook(table, parent, chain, now)
                    self._host.run(command("iptables", "-w", "-t", table, "-I", parent, "1", *_JUMP, chain))
                    changed = True
                elif not wanted and chain in now:
                    self._unhook(table, parent, chain, now)
                    self._host.run(command("iptables", "-w", "-t", table, "-F", chain))
                    self._host.run(command("iptables", "-w", "-t", table, "-X", chain))
                    changed = True
        self.connections.end(*self._ended)
        self._ended.clear()
        return changed

    def _fill(self, table: str, chains: list[str], wanted: Rules, now: Rules) -> bool:
        """Fill the chains, with all bounds that this kernel knows. Return whether anything changed."""
        choices: list[Rules] = []
        for without in ((), (_OPEN,), (_RATE,), (_RATE, _OPEN)):
            some = {chain: [rule for rule in wanted[chain] if not set(without) & set(rule)] for chain in chains}
            choices += [] if some in choices else [some]
        for some in choices:
            if all(now.get(chain) == some[chain] for chain in chains):
                return False
            try:
                text = restore_text(table, some)
                self._host.run(command("iptables-restore", "-w", "--noflush", input=text.encode()))
                return True
            except CommandFailed as error:
                if some is choices[-1]:
                    raise
                self.lacking = str(error)
        return False

    def _unhook(self, table: str, parent: str, chain: str, now: Rules) -> None:
        for rule in now.get(parent, []):
            if rule[-2:] == ("-j", chain):
                self._host.run(command("iptables", "-w", "-t", table, "-D", parent, *rule))

    def _listening(self) -> set[tuple[str, int]]:
        """Return the ports that programs of this host serve to other hosts."""
        found = set()
        for table in ("tcp", "tcp6", "udp", "udp6"):
            try:
                sockets = parse_sockets(self._host.read_text(f"/proc/net/{table}"), table[:3])
            except HostError:
                continue  # no IPv6
            found |= {(one.protocol, one.port) for one in sockets if not one.address.startswith("127.") and one.address != "::1"}
        return found


def rules(bridge: str, forwards: Iterable[Forward]) -> Rules:
    """Return the rules of each chain in the format of `iptables -S`. Pure.

    Traffic from the guests' bridge is not forwarded: it would bypass the isolation of guests. The host's own connections to one
    of its addresses are forwarded, except over loopback (the kernel does not route 127/8 out).
    """
    found: Rules = {FORWARD_NAT_CHAIN: [], FORWARD_LOCAL_CHAIN: [], FORWARD_CHAIN: []}
    for one in sorted(forwards, key=lambda f: (f.port.protocol, f.port.host_port)):
        kind, owner = one.port.protocol, ("-m", "comment", "--comment", f"nqrust-vm:{one.vm_id}")
        asked = ("-p", kind, "-m", "addrtype", "--dst-type", "LOCAL", "-m", kind, "--dport", str(one.port.host_port), *owner)
        led = ("-j", "DNAT", "--to-destination", f"{one.ip}:{one.port.guest_port}")
        found[FORWARD_NAT_CHAIN].append(("!", "-i", bridge, *asked, *led))
        found[FORWARD_LOCAL_CHAIN].append(("!", "-d", "127.0.0.0/8", *asked, *led))
        found[FORWARD_CHAIN].append(
            (
                "-d",
                f"{one.ip}/32",
                "!",
                "-i",
                bridge,
                "-o",
                bridge,
                "-p",
                kind,
                "-m",
                kind,
                "--dport",
                str(one.port.guest_port),
                "-m",
                "conntrack",
                "--ctstate",
                "DNAT",
                *owner,
                "-j",
                "ACCEPT",
            )
        )
    if found[FORWARD_CHAIN]:
        found[FORWARD_CHAIN][:0] = _bounds(bridge)
    return found


def _bounds(bridge: str) -> list[tuple[str, ...]]:
    """Return the rules that drop what goes beyond the bounds of a VM. They count the first packet of a connection: a VM may
    answer none, such as to syslog over UDP. iptables-extensions(8)."""
    begins = ("!", "-i", bridge, "-o", bridge, "-m", "conntrack", "--ctstate", "DNAT", "!", "--ctstatus", "CONFIRMED", "-m")
    rate = ("--hashlimit-above", f"{A_SECOND}/sec", "--hashlimit-burst", str(AT_ONCE), "--hashlimit-mode", "dstip")
    opened = ("--connlimit-above", str(OPEN), "--connlimit-mask", "32", "--connlimit-daddr")
    return [(*begins, _RATE, *rate, "--hashlimit-name", "nqr-fwd", "-j", "DROP"), (*begins, _OPEN, *opened, "-j", "DROP")]


def restore_text(table: str, chains: Rules, more: Iterable[tuple[str, ...]] = ()) -> str:
    """Return input for `iptables-restore --noflush`, which empties and fills each named chain in one transaction.

    `more`: commands for other chains, in the same transaction.
    """
    lines = [f"*{table}", *(f":{chain} - [0:0]" for chain in chains)]
    lines += [joined("-A", chain, *rule) for chain, listed in chains.items() for rule in listed]
    return "\n".join([*lines, *(joined(*words) for words in more), "COMMIT", ""])


def parse_rules(text: str) -> Rules:
    """Parse `iptables -S`: chain -> its rules. Pure."""
    found: Rules = {}
    for line in text.splitlines():
        words = shlex.split(line)
        if len(words) >= 2 and words[0] in ("-N", "-P", "-A"):
            listed = found.setdefault(words[1], [])
            if words[0] == "-A":
                listed.append(tuple(words[2:]))
    return found


def _jumps_first(parent: list[tuple[str, ...]], chain: str) -> bool:
    """Ensure exactly one jump, before the installer's chains, which end with DROP."""
    targets = [rule[-1] for rule in parent if len(rule) >= 2 and rule[-2] == "-j"]
    if targets.count(chain) != 1:
        return False
    ours = [target for target in targets if target.startswith("NQR-")]
    return ours.index(chain) == 0


def _led(rule: tuple[str, ...]) -> Connections | None:
    """Return the connections that a rule of `FORWARD_NAT_CHAIN` has led to a VM. None: somebody else wrote the rule. Pure."""
    value = dict(itertools.pairwise(rule))
    address, _, port = value.get("--to-destination", "").partition(":")
    numbers = value.get("--dport", ""), port
    if not all(number.isdecimal() for number in numbers) or "-p" not in value:
        return None
    return Connections(address, value["-p"], *map(int, numbers))


def _named(port: PortForward) -> str:
    return f"Port {port.host_port}/{port.protocol}"
