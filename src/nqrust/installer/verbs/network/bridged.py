"""Bridged mode: move the physical interface into the bridge, with its addresses, routes and name servers.

The administrator may be connected through that interface, so the move needs a dead-man's switch outside of this process. That
is not implemented. This step refuses, which avoids a lockout; a plan shows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nqrust.host.port import Host
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import Conflict, Inspection, Origin, Prepared, Satisfied

CODE = "NQR-NET-130"
WHY = "This version has no bridged mode, with or without a bridge that is ready."
CURE = "Use --network-mode nat (the default) or isolated."


@dataclass(frozen=True)
class BridgedUplink:
    """The uplink. `bridge` gets `uplink` as a port. The step adopts a bridge that already has it."""

    kind: ClassVar[str] = "bridged-uplink"

    bridge: str
    uplink: str

    @property
    def id(self) -> str:
        return f"bridged-uplink:{self.bridge}"

    def describe(self) -> str:
        return f"put {self.uplink or 'the uplink'} and its addresses into bridge {self.bridge}"

    def inspect(self, host: Host) -> Inspection:
        if host.exists(f"/sys/class/net/{self.bridge}/bridge") and host.listdir(f"/sys/class/net/{self.bridge}/brif"):
            return Satisfied("made by the administrator")
        return Conflict(CODE, WHY, CURE)

    def prepare(self, host: Host) -> Prepared:
        return Prepared(Origin.adopted, ())

    def apply(self, host: Host) -> None:
        raise StepFailed(CODE, WHY, CURE)

    def verify(self, host: Host) -> None:
        return None
