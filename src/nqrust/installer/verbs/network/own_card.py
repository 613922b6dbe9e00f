"""The host's own card as a port of the bridge, moved under guard, with all that it has.

The plan of the change comes from whoever knows the network managers. No phase has this step yet: preflight still refuses
bridged mode (NQR-NET-130).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from nqrust.host.port import Host
from nqrust.installer.engine.errors import StepConflict
from nqrust.installer.engine.progress import Progress, silent
from nqrust.installer.engine.step import Conflict, Inspection, Needed, Origin, Prepared, Satisfied, verify_by_inspection
from nqrust.installer.supervisor.alarm import Alarms
from nqrust.installer.verbs.network.guard.arming import WINDOW
from nqrust.installer.verbs.network.guard.change import NetworkChange
from nqrust.installer.verbs.network.guard.guarding import guarded
from nqrust.installer.verbs.network.guard.live import master
from nqrust.installer.verbs.network.undo import undo_card

Planner = Callable[[Host, str, str], "NetworkChange | Conflict"]
"""Return the change that puts a card into a bridge (host, card, bridge), or why it cannot. Raises HostError."""


@dataclass(frozen=True)
class OwnCard:
    """The card `link` is a port of `bridge`. `window`: seconds in which the new network is proven, or the old one comes back."""

    kind: ClassVar[str] = "own-card"

    link: str
    bridge: str
    planner: Planner
    alarms: Alarms
    window: int = WINDOW
    progress: Progress = field(default=silent, compare=False, repr=False)

    @property
    def id(self) -> str:
        return f"own-card:{self.link}"

    def describe(self) -> str:
        return f"put {self.link} and its addresses into bridge {self.bridge}"

    def inspect(self, host: Host) -> Inspection:
        if master(host, self.link) == self.bridge:
            return Satisfied()
        change = self.planner(host, self.link, self.bridge)
        if isinstance(change, Conflict):
            return change
        moved = (f"~ {one.cidr}: {self.link} -> {self.bridge}" for one in change.live.addresses)
        return Needed((*(f"{'+' if one.before is None else '~'} {one.path}" for one in change.files), *moved))

    def prepare(self, host: Host) -> Prepared:
        return Prepared(Origin.modified, (undo_card(self._plan(host), supervisor=self.alarms.name, window=self.window),))

    def apply(self, host: Host) -> None:
        guarded(host, self._plan(host), self.alarms, window=self.window, tell=lambda text: self.progress(text, None))

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)

    def _plan(self, host: Host) -> NetworkChange:
        change = self.planner(host, self.link, self.bridge)
        if isinstance(change, Conflict):
            raise StepConflict(change.code, change.why, change.cure)
        return change
