"""The own card in the bridge: moved and given back under guard, left alone where somebody changed a file since."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.unit.installer.verbs.network.guard.sample import NEW, OLD, Site

from nqrust.host.port import Host
from nqrust.installer.engine.errors import StepConflict, StepFailed
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.step import Conflict, Needed, Satisfied
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.engine.verb import Kept, Reverted, UndoContext
from nqrust.installer.verbs.network import own_card, shell, undo, words
from nqrust.installer.verbs.network.guard.change import NetworkChange
from nqrust.installer.verbs.network.guard.folder import CONFIRM
from nqrust.installer.verbs.network.own_card import OwnCard

MASTER = "/sys/class/net/eth0/master"


class Card(Site):
    """The site, whose network manager moves the card when it reads its files."""

    def __init__(self) -> None:
        super().__init__()
        self.put("/sys/class/net/eth0/address", "02:00:00:00:00:01\n")
        self.on("networkctl", "reload", changes=True, answer=self._reload)
        self.on("ip", "-json", prefix=True, answer="[]")
        self.on("ip", "-json", "-4", "route", "show", "table", "all", answer=self._routes)
        self.on("ip", "-json", "neigh", "show", prefix=True, answer=self._neighbour)
        self.on("ip", "-json", "route", "get", prefix=True, answer=self._way)

    def _reload(self, host: Host, cmd: object) -> None:
        self.remove(MASTER)
        if self.exists(NEW):
            self.put_symlink("../fcbr0", MASTER)

    def confirmed(self) -> None:
        self.started = self.monotonic()
        self.at[2.0] = lambda: self.write_file(CONFIRM, b"")


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Card:
    made = Card()
    monkeypatch.setattr(undo, "alarms_of", lambda name: made.alarms)
    return made


def step(site: Card, planner: Callable[[Host, str, str], NetworkChange | Conflict] | None = None) -> OwnCard:
    return OwnCard("eth0", "fcbr0", planner or (lambda host, link, bridge: site.change()), site.alarms, window=40)


def context(site: Card) -> UndoContext:
    return UndoContext(site, Originals(site, "/var/lib/originals"))


def moved(site: Card) -> Undo:
    made = step(site)
    (record,) = made.prepare(site).undo
    site.confirmed()
    made.apply(site)
    made.verify(site)
    return record


def test_plan_shows_files_and_addresses(site: Card) -> None:
    found = step(site).inspect(site)
    assert isinstance(found, Needed)
    assert found.diff == (f"~ {OLD}", f"+ {NEW}", "~ 10.0.0.2/24: eth0 -> fcbr0", "~ 2001:db8::2/64: eth0 -> fcbr0")
    assert site.mutations == []


def test_move_and_back_under_guard(site: Card) -> None:
    record = moved(site)
    assert isinstance(step(site).inspect(site), Satisfied)
    site.confirmed()
    assert undo.card(context(site), record.args) == Reverted()
    assert site.read_bytes(OLD) == b"old\n" and not site.exists(NEW) and not site.exists(MASTER)
    assert site.alarms.calls.count("set") == 2, "the way back is guarded too"
    assert undo.card(context(site), record.args) == Reverted("already given back")


def test_unproven_way_back_is_a_failure_that_can_be_tried_again(site: Card) -> None:
    record = moved(site)
    site.started = site.monotonic()
    with pytest.raises(StepFailed, match="NQR-NET-140"):
        undo.card(context(site), record.args)


def test_unproven_move_fails(site: Card) -> None:
    with pytest.raises(StepFailed, match="NQR-NET-140"):
        step(site).apply(site)


def test_card_stays_where_somebody_changed_a_file(site: Card) -> None:
    record = moved(site)
    site.put(NEW, "theirs\n")
    kept = undo.card(context(site), record.args)
    assert isinstance(kept, Kept) and kept.where == NEW and "eth0 stays in fcbr0" in kept.why
    assert site.read_bytes(NEW) == b"theirs\n"


def test_refusal_of_the_plan_is_a_conflict(site: Card) -> None:
    made = step(site, lambda host, link, bridge: Conflict("NQR-NET-153", "eth0 is a wireless card.", "Name another."))
    found = made.inspect(site)
    assert isinstance(found, Conflict) and found.code == "NQR-NET-153"
    with pytest.raises(StepConflict, match="NQR-NET-153"):
        made.apply(site)


def test_words_and_shell_name_card_and_bridge(site: Card) -> None:
    (record,) = step(site).prepare(site).undo
    assert words.card(record.args) == "take eth0 out of bridge fcbr0, with its addresses"
    (line,) = shell.card(context(site), record.args)
    assert line.startswith("take_card_back eth0 fcbr0 ") and f"rm -f {NEW}" in line and "networkctl reload" in line
    assert own_card.OwnCard.kind == "own-card"
