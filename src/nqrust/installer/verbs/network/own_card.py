"""The host's own card as a port of the bridge, moved under guard, with all that it has.

The plan of the change comes from whoever knows the network managers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from nqrust.host.port import Host
from nqrust.installer.engine.errors import StepConflict
from nqrust.installer.engine.interrupt import Interruption
from nqrust.installer.engine.step import Conflict, Inspection, Needed, Origin, Prepared, Satisfied, verify_by_inspection
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.supervisor.alarm import Alarms
from nqrust.installer.verbs.network.guard import folder
from nqrust.installer.verbs.network.guard.arming import UNDECIDED, UNDECIDED_CURE, UNDECIDED_WHAT, WINDOW, missing_folders
from nqrust.installer.verbs.network.guard.change import NetworkChange
from nqrust.installer.verbs.network.guard.guarding import guarded
from nqrust.installer.verbs.network.guard.live import master
from nqrust.installer.verbs.network.undo import holds_card, undo_card

Planner = Callable[[Host, str, str], "NetworkChange | Conflict"]
"""Return the change that puts a card into a bridge (host, card, bridge), or why it cannot. Raises HostError."""


@dataclass(frozen=True)
class OwnBridge:
    """A bridge that nqr made, and the card that it put there."""

    link: str
    bridge: str


def own_bridges(host: Host, undos: Iterable[Undo]) -> tuple[OwnBridge, ...]:
    """Return nqr's bridges to the LAN, by the receipt's records and the files on the host. Raises HostError."""
    found = (undo.args for undo in undos if undo.verb == "card" and holds_card(host, undo.args))
    return tuple(dict.fromkeys(OwnBridge(str(args["link"]), str(args["bridge"])) for args in found))


@dataclass(frozen=True)
class OwnCard:
    """The card `link` is a port of `bridge`. `window`: seconds in which the new network is proven, or the old one comes back.
    `held`: an earlier run put the card there. `tell` gets what the step waits for, for people. A signal
    in `interruption` ends the wait: the old network comes back."""

    kind: ClassVar[str] = "own-card"

    link: str
    bridge: str
    planner: Planner
    alarms: Alarms
    window: int = WINDOW
    held: bool = False
    tell: Callable[[str], None] = field(default=lambda text: None, compare=False, repr=False)
    interruption: Interruption = field(default_factory=Interruption, compare=False, repr=False)

    @property
    def id(self) -> str:
        return f"own-card:{self.link}"

    def describe(self) -> str:
        return (
            f"put {self.link} and its addresses into bridge {self.bridge}; the old network comes back within {self.window} s unless"
            " the new one is proven"
        )

    def inspect(self, host: Host) -> Inspection:
        if folder.state(host) in folder.PENDING:
            # The card may be in the bridge now and out of it in a minute.
            return Conflict(UNDECIDED, UNDECIDED_WHAT, UNDECIDED_CURE)
        if master(host, self.link) == self.bridge:
            return Satisfied()
        if self.held:
            return Conflict(
                "NQR-NET-158",
                f"{self.link} has left the bridge {self.bridge}, though the files of nqr still put it there.",
                "Restart the network manager of this host or the host itself, then run the same command again.",
            )
        if host.exists(f"/sys/class/net/{self.bridge}"):
            return Conflict(
                "NQR-NET-102",
                f"There is a network interface {self.bridge} already, and {self.link} is not in it.",
                "Choose another name with --bridge-name, or remove that interface.",
            )
        change = self.planner(host, self.link, self.bridge)
        if isinstance(change, Conflict):
            return change
        moved = (f"~ {one.cidr}: {self.link} -> {self.bridge}" for one in change.live.addresses)
        return Needed((*(f"{'+' if one.before is None else '~'} {one.path}" for one in change.files), *moved))

    def prepare(self, host: Host) -> Prepared:
        change = self._plan(host)
        folders = missing_folders(host, change.files)
        undo = undo_card(change, alarms=self.alarms, window=self.window, folders=folders)
        return Prepared(Origin.modified, (undo,))

    def apply(self, host: Host) -> None:
        plan, watched = self._plan(host), self.interruption
        guarded(host, plan, self.alarms, window=self.window, tell=self.tell, stopped=lambda: watched.came)

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)

    def _plan(self, host: Host) -> NetworkChange:
        change = self.planner(host, self.link, self.bridge)
        if isinstance(change, Conflict):
            raise StepConflict(change.code, change.why, change.cure)
        return change
