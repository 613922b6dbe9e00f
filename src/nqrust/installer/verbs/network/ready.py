"""A bridge that the administrator made: VMs use it, and nqr changes nothing of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nqrust.host.port import Host
from nqrust.installer.engine.step import Conflict, Inspection, Origin, Prepared, Satisfied
from nqrust.installer.verbs.network.link import ALIAS, link_state


@dataclass(frozen=True)
class ReadyBridge:
    """The bridge is there, up, and not nqr's. The step never changes anything, so it has no undo."""

    kind: ClassVar[str] = "ready-bridge"

    name: str

    @property
    def id(self) -> str:
        return f"ready-bridge:{self.name}"

    def describe(self) -> str:
        return f"use bridge {self.name} as it is"

    def inspect(self, host: Host) -> Inspection:
        state = link_state(host, self.name)
        if not state.bridge or state.alias == ALIAS:
            return Conflict(
                "NQR-NET-130",
                f"This host has no bridge {self.name} to its LAN any more.",
                "Run the same command again: it looks at this host's network again.",
            )
        if not state.up:
            return Conflict("NQR-NET-135", f"The bridge {self.name} is down.", f"Bring it up: ip link set {self.name} up")
        return Satisfied("made by the administrator")

    def prepare(self, host: Host) -> Prepared:
        return Prepared(Origin.adopted, ())

    def apply(self, host: Host) -> None:
        return None

    def verify(self, host: Host) -> None:
        return None
