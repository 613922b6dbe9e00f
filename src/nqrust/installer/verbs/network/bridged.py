"""Bridged mode: move the physical interface into the bridge, with its addresses, routes and name servers.

The administrator may be connected through that interface, so the move needs a dead-man's switch outside of this process. That
is not implemented. This step refuses, which avoids a lockout; a plan shows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nqrust.host.port import Host
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import Conflict, Inspection, Origin, Prepared

CODE = "NQR-NET-130"
CURE = (
    "Make a bridge with this host's network card in it, and name it with --bridge-name (docs/operate/bridged.md). Or use"
    " --network-mode nat (the default)."
)


@dataclass(frozen=True)
class BridgedUplink:
    """The uplink. `bridge` gets `uplink` as a port. A bridge that is there is used by ReadyBridge (ready.py)."""

    kind: ClassVar[str] = "bridged-uplink"

    bridge: str
    uplink: str

    @property
    def id(self) -> str:
        return f"bridged-uplink:{self.bridge}"

    def describe(self) -> str:
        return f"put {self.uplink or 'the uplink'} and its addresses into bridge {self.bridge}"

    def inspect(self, host: Host) -> Inspection:
        return Conflict(CODE, f"This host has no bridge {self.bridge} to its LAN, and this version does not make one.", CURE)

    def prepare(self, host: Host) -> Prepared:
        return Prepared(Origin.adopted, ())

    def apply(self, host: Host) -> None:
        raise StepFailed(CODE, f"This host has no bridge {self.bridge} to its LAN, and this version does not make one.", CURE)

    def verify(self, host: Host) -> None:
        return None
