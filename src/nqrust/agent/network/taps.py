"""TAP devices: one for each VM, its owner in the ifalias, a port of the VM bridge. ip-link(8).

Ports are isolated from each other unless the network allows it: guests reach the bridge itself, not one another. If nqr
assigns the addresses, it pins the MAC of each port on the bridge and the MAC of each address on the host. Neither learns
from guests, so a guest that uses a foreign address receives none of its traffic.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable

from nqrust.agent.errors import Conflict, Failed
from nqrust.agent.network import rates
from nqrust.agent.network.sources import Sources
from nqrust.agent.store import VmRecord
from nqrust.contract.agent import TapStatus
from nqrust.contract.names import TAP_ALIAS, mac_address
from nqrust.contract.text import joined, word
from nqrust.contract.vms import RateLimits
from nqrust.host.errors import CommandFailed, HostError, ProgramMissing
from nqrust.host.port import Host, command

ALIAS = TAP_ALIAS
_OURS = re.compile(r"tap[0-9a-f]{11}")
_NET = "/sys/class/net"
_IFF_UP = 0x1


class Taps:
    """`records` returns the records on disk, if nqr assigns the addresses. None: the LAN has its own DHCP."""

    def __init__(
        self,
        host: Host,
        bridge: str,
        *,
        isolated: bool,
        records: Callable[[], Iterable[VmRecord]] | None = None,
        sources: Sources | None = None,
    ) -> None:
        self._host, self._bridge, self._isolated, self._records = host, bridge, isolated, records
        self._sources = sources

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

    def ensure(self, name: str, vm_id: str, user: int) -> None:
        """The VM's TAP exists, belongs to it, is a port of the bridge and up; `user` may attach to it, without privileges.
        Raises Conflict, Failed."""
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
        if found is not None and self._read(name, "owner") != str(user):
            self.remove(name)
            found = None
        if found is not None:
            rates.clear(self._host, name)  # of an earlier start
        word(name), word(vm_id)
        lines = [] if found is not None else [f"tuntap add dev {name} mode tap user {user}"]
        lines += [
            f"link set dev {name} alias {ALIAS}{vm_id}",
            f"link set dev {name} master {self._bridge} up",
            f"link set dev {name} type bridge_slave isolated {'on' if self._isolated else 'off'}",
        ]
        try:
            self._ip(lines)
            self.pin()
        except (CommandFailed, ProgramMissing) as error:
            raise Failed("NQR-NET-702", f"The TAP {name} could not be set up ({error}).", "Run `nqr doctor`.") from error

    def pin(self) -> list[str]:
        """Pin unpinned TAPs and return their names. Raises a HostError.

        The bridge forgets its entries when it goes down, or when a port that joins or leaves changes its own MAC.
        """
        if self._records is None:
            return []
        if self._sources is not None:
            self._sources.sync()
        there = {tap.name: tap.vm_id for tap in self.all() if tap.bridge == self._bridge}
        ours = [record for record in self._records() if there.get(record.tap) == record.id]
        learning = [record for record in ours if self._read(record.tap, "brport/learning") != "0"]
        for record in learning:
            self._pin_port(record.tap, record.mac)
        known = self._neighbours() if ours else {}
        strangers = [record for record in ours if record.ip and known.get(record.ip) != record.mac.lower()]
        if strangers:
            bridge = self._bridge
            told = [(word(one.ip or ""), word(one.mac)) for one in strangers]
            self._ip([f"neigh replace {ip} lladdr {mac} dev {bridge} nud permanent" for ip, mac in told])
        return sorted({record.tap for record in (*learning, *strangers)})

    def _pin_port(self, name: str, mac: str) -> None:
        try:
            self._host.run(command("bridge", "fdb", "replace", mac, "dev", name, "master", "static"))
            self._ip([f"link set dev {name} type bridge_slave learning off"])
            # Only the VM's own MAC comes in; Linux 5.18 and iproute2 of then know that.
            self._host.run(command("ip", "link", "set", "dev", name, "type", "bridge_slave", "locked", "on", ok=(0, 1, 2, 255)))
        except CommandFailed:
            if self.get(name) is not None:  # otherwise it disappeared meanwhile
                raise

    def _forget(self, mac: str) -> None:
        with contextlib.suppress(CommandFailed):  # the bridge is gone, and its entries with it
            for ip in [ip for ip, known in self._neighbours().items() if known == mac]:
                self._host.run(command("ip", "neigh", "delete", ip, "dev", self._bridge))

    def _neighbours(self) -> dict[str, str]:
        """Return address -> MAC of the permanent neighbour entries."""
        answer = self._host.run(command("ip", "-4", "neigh", "show", "dev", self._bridge, "nud", "permanent"))
        lines = [line.split() for line in answer.stdout.splitlines()]
        return {words[0]: words[words.index("lladdr") + 1] for words in lines if "lladdr" in words}

    def _ip(self, lines: list[str]) -> None:
        self._host.run(command("ip", "-batch", "-", input="".join(f"{joined(*line.split(' '))}\n" for line in lines).encode()))

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
        rates.remove(self._host, name)
        if found is None:
            return
        try:
            self._host.run(command("ip", "link", "delete", "dev", name))
        except CommandFailed as error:
            if self.get(name) is not None:
                raise Failed("NQR-NET-702", f"The TAP {name} could not be removed ({error}).", "Run `nqr doctor`.") from error
        if self._records is not None and found.vm_id:
            self._forget(mac_address(found.vm_id))
        if self._sources is not None:
            self._sources.sync()

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
