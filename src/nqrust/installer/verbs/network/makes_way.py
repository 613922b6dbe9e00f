"""A service that makes way: it holds a port that another service of the same installation needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nqrust.host.facts import ports, processes
from nqrust.host.port import Host
from nqrust.installer.engine.retire import MAKES_WAY
from nqrust.installer.engine.step import Inspection, Needed, Origin, Prepared, Satisfied, verify_by_inspection
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.supervisor.holding import overlaps, own_processes
from nqrust.installer.supervisor.port import Supervisor
from nqrust.installer.verbs.network.link import ALIAS, link_state
from nqrust.installer.verbs.service.undo import undo_unit


@dataclass(frozen=True)
class MakesWay:
    """Stop the service `name` while it listens on one of `wanted` (address, port), or while one of `links` exists for it. A
    later step of the same plan starts it again; so does a rollback."""

    kind: ClassVar[str] = MAKES_WAY

    name: str
    supervisor: Supervisor
    wanted: tuple[tuple[str, int], ...] = ()
    links: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return f"{MAKES_WAY}:service:{self.name}"

    def describe(self) -> str:
        what = ", ".join((*self.links, *(f"port {number}" for _, number in self.wanted)))
        return f"stop {self.supervisor.unit_name(self.name)}, which leaves {what}"

    def inspect(self, host: Host) -> Inspection:
        unit = self.supervisor.unit_name(self.name)
        used = [link for link in self.links if link_state(host, link).alias == ALIAS]
        if used and self.supervisor.state(host, self.name).active:
            return Needed(tuple(f"- {unit} on {link}" for link in used))
        if not self.wanted:
            return Satisfied()
        own = own_processes(host, self.supervisor, [self.name])
        if not own:
            return Satisfied()
        held = [
            f"- {unit} on port {number}"
            for port in ports.probe(host, processes.probe(host))
            for address, number in self.wanted
            if port.pid in own and overlaps(port, address, number)
        ]
        return Needed(tuple(dict.fromkeys(held))) if held else Satisfied()

    def prepare(self, host: Host) -> Prepared:
        state = self.supervisor.state(host, self.name)
        unit = undo_unit(self.supervisor.name, self.supervisor.unit_name(self.name), enabled=state.enabled, active=state.active)
        return Prepared(Origin.modified, (Undo(unit.verb, {**unit.args, **self.supervisor.undo_arguments()}),))

    def apply(self, host: Host) -> None:
        self.supervisor.stop(host, self.name)

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)
