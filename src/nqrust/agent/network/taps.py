"""TAP devices: one for each VM, its owner in the ifalias, a port of the VM bridge. ip-link(8), nsenter(1).

A VM's launcher makes the TAP in the VM's own network namespace. Once the VMM has it open, the agent moves it to the host. The
VMM keeps its open file, and nothing else of the host's network: it can open no second TAP there.

Ports are isolated from each other unless the network allows it: guests reach the bridge itself, not one another. The MAC of
each port is pinned on the bridge. If nqr assigns the addresses, it also pins the MAC of each address on the host. Neither
learns from guests, so a guest that uses a foreign address receives none of its traffic.

A TAP is nothing but that port to the host (port_only.py). So frames of a spanning tree (IEEE 802.1D) do not reach the bridge's own
from a guest either, and a LAN's filter drops them (lan.py). Otherwise a guest that claims to be near the root would have the host
close its own card. Where they do reach it, the port on which one arrives is closed itself.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from nqrust.agent.errors import AgentError, Conflict, Failed
from nqrust.agent.network import detours, port_only, rates
from nqrust.agent.store import VmRecord
from nqrust.contract.agent import TapStatus
from nqrust.contract.names import TAP_ALIAS, mac_address, tap_mac
from nqrust.contract.text import joined, word
from nqrust.contract.vms import RateLimits
from nqrust.host.errors import CommandFailed, HostError, PathError, ProgramMissing
from nqrust.host.port import Host, command

ALIAS = TAP_ALIAS
_OURS = re.compile(r"tap[0-9a-f]{11}")
_NET = "/sys/class/net"
_IFF_UP = 0x1
_SET = "3"  # addr_assign_type: somebody chose the MAC, and no port changes it


class Filter(Protocol):
    """Lets in what the VMs on disk may send (sources.py, lan.py). `lacking`: what it cannot do here."""

    lacking: str

    def sync(self) -> bool: ...


class Taps:
    """`records` returns the records on disk; without them no port is pinned. `lan`: the bridge is the administrator's, and the
    agent changes nothing of it but the ports of VMs."""

    def __init__(
        self,
        host: Host,
        bridge: str,
        *,
        isolated: bool,
        records: Callable[[], Iterable[VmRecord]] | None = None,
        sources: Filter | None = None,
        lan: bool = False,
    ) -> None:
        self._host, self._bridge, self._isolated, self._records = host, bridge, isolated, records
        self._sources, self._lan = sources, lan
        self.detours = detours.Detours(host)
        self._locks = False
        """Whether this host can lock ports, as soon as it has done so once."""

    def all(self) -> list[TapStatus]:
        """Return nqr's TAPs: those with its alias, and those with its kind of name and no alias (an interrupted creation)."""
        found = []
        for name in self._host.listdir(_NET):
            status = self.get(name)
            if status is not None and (status.vm_id or _OURS.fullmatch(name)):
                found.append(status)
        return found

    def get(self, name: str) -> TapStatus | None:
        """Return the TAP, or None if there is no such link or it is not a TAP."""
        if not self._host.exists(f"{_NET}/{name}/tun_flags"):
            return None
        alias = self._read(name, "ifalias")
        flags = self._read(name, "flags") or "0"
        return TapStatus(
            name=name,
            vm_id=alias[len(ALIAS) :] if alias.startswith(ALIAS) else None,
            bridge=self._master(name),
            up=bool(int(flags, 16) & _IFF_UP),
        )

    def connected(self, name: str, vm_id: str) -> bool:
        """Return whether the TAP is the VM's port of the bridge, and up."""
        found = self.get(name)
        return found is not None and (found.vm_id, found.bridge, found.up) == (vm_id, self._bridge, True)

    def make_way(self, name: str, vm_id: str) -> None:
        """Check that the VM's TAP can become a port of the bridge, and remove one of an earlier start. Raises Conflict, Failed."""
        if not self._host.exists(f"{_NET}/{self._bridge}/bridge"):
            raise Failed(
                "NQR-NET-703",
                f"The bridge {self._bridge} is not there.",
                "Run `nqr doctor`, or `nqr install` again.",
                status=503,
            )
        found = self.get(name)
        if found is None and self._host.exists(f"{_NET}/{name}"):
            raise Conflict("NQR-NET-701", f"{name} exists and is not a TAP.", "Remove or rename that link.")
        if found is not None and found.vm_id not in (None, vm_id):
            raise Conflict("NQR-NET-701", f"The TAP {name} belongs to VM {found.vm_id}.", "Delete the VM that holds it first.")
        self.remove(name)

    def admit(self) -> None:
        """Let in what the VMs on disk may send, and nothing else. Call it before a guest begins. Raises a HostError."""
        if self._sources is not None:
            self._sources.sync()

    def take(self, name: str, vm_id: str, pid: int) -> None:
        """Move the VM's TAP from the network namespace of process `pid` to the host, as a port of the bridge that is pinned to
        the VM. One that is here already is made that port. Raises Failed."""
        word(name), word(vm_id)
        records = list(self._records()) if self._records is not None else []
        own = next((record for record in records if record.id == vm_id), None)
        # The MAC comes first: udev gives a MAC of its own to links without one that somebody chose. systemd.link(5).
        move = [f"link set dev {name} address {tap_mac(vm_id)}", f"link set dev {name} netns {os.getpid()}"]
        try:
            if self.get(name) is None:
                self._ip(move, "nsenter", f"--net=/proc/{pid}/ns/net", "--")
            if own is not None:
                for record in self._ports(records):
                    self._strange_mac(record)  # one that took this VM's MAC would keep its entry
            lines, up = self._port(name, vm_id, own), [f"link set dev {name} up"]
            port_only.refuse_packets(self._host, name)
            self.detours.lead(name, vm_id)
            if own is None or self._locks:
                self._ip([*lines, *up])
            else:  # its guest may run by now: the port is locked before it goes up
                self._ip(lines)
                self._lock(name)
                self._ip(up)
            if own is not None:
                self._enter(name, own.mac)
        except (CommandFailed, ProgramMissing, PathError) as error:
            raise Failed("NQR-NET-702", f"The TAP {name} could not be set up ({error}).", "Run `nqr doctor`.") from error

    def _port(self, name: str, vm_id: str, own: VmRecord | None) -> list[str]:
        """Return the lines of ip(8) that make a TAP a port which is down yet."""
        fixed = self._bridge_mac(tap_mac(vm_id))
        known = [own] if own is not None and own.ip else []
        return [
            # A port may not change the MAC of a bridge that was here before nqr, either.
            *(f"link set dev {self._bridge} address {mac}" for mac in fixed),
            f"link set dev {name} alias {ALIAS}{vm_id}",
            port_only.without_arp(name),
            f"link set dev {name} master {self._bridge}",
            f"link set dev {name} type bridge_slave {self._flags(pinned=own is not None)}",
            *(self._neighbour(record) for record in known),
        ]

    def _bridge_mac(self, port: str) -> list[str]:
        """Return the MAC to fix on the bridge before a port with this MAC joins. A LAN's bridge keeps its way to choose one
        unless the new port would change it: a bridge takes the lowest MAC of its ports."""
        now = self._read(self._bridge, "address")
        if not now or self._read(self._bridge, "addr_assign_type") == _SET or (self._lan and now < port):
            return []
        return [now]

    def _flags(self, *, pinned: bool) -> str:
        isolated = f"{port_only.flags()} isolated {'on' if self._isolated else 'off'}"
        return f"learning off flood off guard on {isolated}{' locked on' if self._locks else ''}" if pinned else isolated

    def _neighbour(self, record: VmRecord) -> str:
        ip, mac = word(record.ip or ""), word(record.mac)
        return f"neigh replace {ip} lladdr {mac} dev {self._bridge} nud permanent"

    def _ports(self, records: Iterable[VmRecord]) -> list[VmRecord]:
        """Return the records whose TAPs are ports of the bridge."""
        there = {tap.name: tap.vm_id for tap in self.all() if tap.bridge == self._bridge}
        return [record for record in records if there.get(record.tap) == record.id]

    def pin(self) -> dict[str, tuple[str, ...]]:
        """Restore what somebody changed of the VMs' ports. Return TAP -> what was wrong. Raises a HostError.

        The bridge forgets its entries when it goes down. A VMM without this version's filter can change the MAC of its TAP:
        with the MAC of another VM it takes that VM's entry away.
        """
        if self._records is None:
            return {}
        self.admit()
        ours = self._ports(self._records())
        led = self.detours.put_back((record.tap, record.id) for record in ours)
        wrong = {record.tap: led.get(record.tap, ()) + self._strange_mac(record) for record in ours}
        entries = self._entries() if ours else {}
        for record in ours:
            found = self._strange_port(record, entries)
            if found:
                self._pin_port(record.tap, record.mac)
            wrong[record.tap] += found
        known = self._neighbours() if ours else {}
        strangers = [record for record in ours if record.ip and known.get(record.ip) != record.mac.lower()]
        if strangers:
            self._ip([self._neighbour(record) for record in strangers])
        for record in strangers:
            wrong[record.tap] += (f"the host did not know the MAC of {record.ip}",)
        return {tap: reasons for tap, reasons in sorted(wrong.items()) if reasons}

    def _strange_mac(self, record: VmRecord) -> tuple[str, ...]:
        """Give the TAP its MAC back. Before the entries are read: the bridge has one for the MAC of each port."""
        found = self._read(record.tap, "address")
        if found in (tap_mac(record.id), ""):  # the latter disappeared meanwhile
            return ()
        with self._unless_gone(record.tap):
            self._ip([f"link set dev {record.tap} address {tap_mac(record.id)}"])
        return (f"its MAC was {found}",)

    def _strange_port(self, record: VmRecord, entries: dict[str, str]) -> tuple[str, ...]:
        flags = (
            ("learning", "0", "the bridge learned addresses from it"),
            ("unicast_flood", "0", "it got frames for unknown MACs"),
            ("bpdu_guard", "1", "it could take part in the bridge's spanning tree"),
            ("isolated", "1" if self._isolated else "0", "its isolation was not as configured"),
        )
        found = [why for flag, wanted, why in flags if self._read(record.tap, f"brport/{flag}") not in (wanted, "")]
        if entries.get(record.mac.lower()) != record.tap:
            found.append("the bridge did not know its VM's MAC")
        return (*found, *port_only.strange(self._host, record.tap))

    def _pin_port(self, name: str, mac: str) -> None:
        with self._unless_gone(name):
            self._enter(name, mac)
            port_only.refuse_packets(self._host, name)
            self._ip([port_only.without_arp(name), f"link set dev {name} type bridge_slave {self._flags(pinned=True)}"])
            self._lock(name)

    def _enter(self, name: str, mac: str) -> None:
        """Tell the bridge the MAC of a port's VM."""
        self._host.run(command("bridge", "fdb", "replace", mac, "dev", name, "master", "static"))

    def _lock(self, name: str) -> None:
        """Let in only the VM's own MAC; Linux 5.18 and iproute2 of then know that. `_flags` does it as soon as it has worked."""
        if not self._locks:
            lock = command("ip", "link", "set", "dev", name, "type", "bridge_slave", "locked", "on", ok=(0, 1, 2, 255))
            self._locks = self._host.run(lock).code == 0

    @contextlib.contextmanager
    def _unless_gone(self, name: str) -> Iterator[None]:
        try:
            yield
        except CommandFailed:
            if self.get(name) is not None:  # otherwise it disappeared meanwhile
                raise

    def _entries(self) -> dict[str, str]:
        """Return MAC -> port of the bridge's static entries. bridge(8)."""
        answer = self._host.run(command("bridge", "fdb", "show", "br", self._bridge))
        lines = [line.split() for line in answer.stdout.splitlines()]
        return {words[0]: words[2] for words in lines if len(words) > 3 and words[1] == "dev" and "static" in words[3:]}

    def _forget(self, mac: str) -> None:
        with contextlib.suppress(CommandFailed):  # the bridge is gone, and its entries with it
            for ip in [ip for ip, known in self._neighbours().items() if known == mac]:
                self._host.run(command("ip", "neigh", "delete", ip, "dev", self._bridge))

    def _neighbours(self) -> dict[str, str]:
        """Return address -> MAC of the permanent neighbour entries."""
        answer = self._host.run(command("ip", "-4", "neigh", "show", "dev", self._bridge, "nud", "permanent"))
        lines = [line.split() for line in answer.stdout.splitlines()]
        return {words[0]: words[words.index("lladdr") + 1] for words in lines if "lladdr" in words}

    def _ip(self, lines: list[str], *within: str) -> None:
        self._host.run(
            command(*within, "ip", "-batch", "-", input="".join(f"{joined(*line.split(' '))}\n" for line in lines).encode())
        )

    def limit(self, name: str, vm_id: str, limits: RateLimits) -> None:
        """Limit the traffic of the VM's TAP. Raises Failed."""
        rates.limit(self._host, name, f"{ALIAS}{vm_id}", limits)

    def in_use(self, name: str) -> bool:
        """Return whether a process has the TAP open: only then does an upped TAP have a carrier."""
        return self._read(name, "carrier") == "1"

    def remove(self, name: str, *, owner: str | None = None) -> None:
        """Remove the TAP if it exists (and, with `owner`, if it belongs to that VM)."""
        found = self.get(name)
        if found is not None and owner is not None and found.vm_id not in (None, owner):
            return
        detours.remove(self._host, name)
        if found is None:
            return
        try:
            self._host.run(command("ip", "link", "delete", "dev", name))
        except CommandFailed as error:
            if self.get(name) is not None:
                raise Failed("NQR-NET-702", f"The TAP {name} could not be removed ({error}).", "Run `nqr doctor`.") from error
        detours.remove(self._host, name)  # the upkeep may have put it back meanwhile
        if self._records is not None and found.vm_id:
            self._forget(mac_address(found.vm_id))
        with contextlib.suppress(AgentError):  # the TAP is gone, and the upkeep tries again
            self.admit()

    def _read(self, name: str, attribute: str) -> str:
        try:
            return self._host.read_text(f"{_NET}/{name}/{attribute}").strip()
        except HostError:  # `carrier` of a link that is down returns EINVAL
            return ""

    def _master(self, name: str) -> str | None:
        try:
            return self._host.readlink(f"{_NET}/{name}/master").rpartition("/")[2]
        except HostError:
            return None
