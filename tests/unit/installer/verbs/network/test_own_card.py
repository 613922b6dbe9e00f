"""The own card in the bridge: moved and given back under guard, left alone where somebody changed a file since."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from tests.unit.installer.verbs.network.guard.sample import NEW, OLD, Site

from nqrust.contract import paths
from nqrust.host.port import Host
from nqrust.installer.engine.errors import StepConflict, StepFailed
from nqrust.installer.engine.interrupt import Interruption
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.step import Conflict, Needed, Satisfied
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.engine.verb import Kept, Reverted, UndoContext
from nqrust.installer.supervisor.detached_alarm import DetachedAlarms
from nqrust.installer.supervisor.registry import alarms_of
from nqrust.installer.verbs.network import own_card, shell, undo, words
from nqrust.installer.verbs.network.guard.arming import arm
from nqrust.installer.verbs.network.guard.change import NetworkChange, file_change
from nqrust.installer.verbs.network.guard.folder import CONFIRM, SCRIPT, State
from nqrust.installer.verbs.network.guard.guarding import how_to_confirm
from nqrust.installer.verbs.network.own_card import OwnBridge, OwnCard
from nqrust.installer.verbs.registry import VERBS

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
    monkeypatch.setattr(undo, "alarms_of", lambda name, programs_dir: made.alarms)
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


def test_way_back_is_proven_by_the_gateway_of_today(site: Card) -> None:
    """The LAN has another router than at the install. The recorded one would never answer."""
    record = moved(site)
    site.put("/sys/class/net/fcbr0/ifindex", "9")
    now = json.dumps([{"dst": "default", "gateway": "10.0.0.254", "dev": "fcbr0", "protocol": "dhcp", "flags": []}])
    for link in ((), ("dev", "fcbr0")):
        site.on("ip", "-json", "-4", "route", "show", "table", "all", *link, answer=now)
    site.answers = set()
    site.confirmed()
    assert undo.card(context(site), record.args) == Reverted()


@pytest.mark.parametrize(
    ("recorded", "now", "asked"),
    [(["10.0.0.1", "fe80::1"], ["10.0.0.1", "fe80::2"], ["10.0.0.1"]), (["10.0.0.1"], ["10.0.0.9", "10.0.0.1"], ["10.0.0.1"]),
     ([], ["10.0.0.9"], []), (["10.0.0.1"], ["10.0.0.9"], ["10.0.0.9"])],
    ids=["another router of one family", "a default route besides", "none at the install", "another router"],
)  # fmt: skip
def test_way_back_asks_the_recorded_gateways_that_are_still_used(
    site: Card, recorded: list[str], now: list[str], asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = moved(site)
    changes: list[NetworkChange] = []
    monkeypatch.setattr(undo, "guarded", lambda host, change, *words, **options: changes.append(change))
    site.put("/sys/class/net/fcbr0/ifindex", "9")
    routes = json.dumps([{"dst": "default", "gateway": one, "dev": "fcbr0", "flags": []} for one in now])
    site.on("ip", "-json", "-4", "route", "show", "table", "all", "dev", "fcbr0", answer=routes)
    undo.card(context(site), {**record.args, "gateways": recorded})
    assert [list(change.gateways) for change in changes] == [asked]


def test_way_back_is_proven_by_the_recorded_gateway_where_there_is_none_now(site: Card) -> None:
    record = moved(site)
    site.answers = set()
    site.confirmed()
    with pytest.raises(StepFailed, match=r"gateway 10\.0\.0\.1 does not answer"):
        undo.card(context(site), record.args)


def test_records_of_one_card_are_tried_once_in_a_run(site: Card) -> None:
    record = moved(site)
    again = Undo("card", {**record.args, "bridge": "fcbr1"})
    assert VERBS.once((record,)) == VERBS.once((again,)) != VERBS.once((Undo("card", {**record.args, "link": "eth1"}),))
    assert VERBS.once((Undo("link", {"name": "eth0"}),)) == frozenset()


def test_signal_in_the_window_ends_the_wait(site: Card) -> None:
    came = Interruption()
    made = replace(step(site), interruption=came)
    site.at[2.0] = lambda: setattr(came, "signal", 2)
    with pytest.raises(StepFailed, match="nqr was stopped"):
        made.apply(site)
    assert site.alarms.calls.count("go off") == 1 and site.monotonic() - site.started < 5


def test_folders_of_the_move_go_with_it(site: Card) -> None:
    deep = "/etc/systemd/system/wait.service.d/20-nqrust.conf"

    def planner(host: Host, link: str, bridge: str) -> NetworkChange:
        change = site.change()
        return replace(change, files=(*change.files, file_change(host, deep, b"x")))

    made = step(site, planner)
    (record,) = made.prepare(site).undo
    assert record.args["folders"] == ["/etc/systemd/system/wait.service.d"]
    site.confirmed()
    made.apply(site)
    assert site.exists(deep)
    site.confirmed()
    assert undo.card(context(site), record.args) == Reverted()
    assert not site.exists("/etc/systemd/system/wait.service.d") and site.exists("/etc/systemd/system")
    (line,) = shell.card(context(site), record.args)
    assert "rmdir /etc/systemd/system/wait.service.d " in line


def test_link_of_the_bridges_name_is_a_conflict(site: Card) -> None:
    site.put("/sys/class/net/fcbr0/ifindex", "9")
    found = step(site).inspect(site)
    assert isinstance(found, Conflict) and found.code == "NQR-NET-102" and "eth0 is not in it" in found.why


def test_unproven_way_back_is_a_failure_that_can_be_tried_again(site: Card) -> None:
    record = moved(site)
    site.started = site.monotonic()
    with pytest.raises(StepFailed, match="NQR-NET-140"):
        undo.card(context(site), record.args)


def test_unproven_move_fails(site: Card) -> None:
    with pytest.raises(StepFailed, match="NQR-NET-140"):
        step(site).apply(site)


def test_way_back_to_a_bridge_of_ip_has_commands_of_its_own(site: Card) -> None:
    """The guard makes the bridge before its manager gets these commands."""
    again = (("nmcli", "connection", "up", "uuid", "of-bridge"),)
    (plain,) = step(site).prepare(site).undo
    (record,) = step(site, lambda host, link, bridge: replace(site.change(), again=again)).prepare(site).undo
    for one, command in ((plain, "networkctl reload"), (record, "nmcli connection up uuid of-bridge")):
        moved(site)
        seen: list[str] = []
        site.confirmed()
        site.at[1.0] = partial(lambda told: told.append(site.read_text(SCRIPT)), seen)
        undo.card(context(site), one.args)
        assert seen[0].partition("\ncommands() {\n")[2].partition("\n}\n")[0] == f"    limited {command}", seen
        assert "early_commands() {\n    limited netplan generate\n}" in seen[0], (
            "a boot in the window needs them on this way, too"
        )


def test_card_stays_where_somebody_changed_a_file(site: Card) -> None:
    record = moved(site)
    site.put(NEW, "theirs\n")
    kept = undo.card(context(site), record.args)
    assert isinstance(kept, Kept) and kept.where == NEW and "eth0 stays in fcbr0" in kept.why
    assert site.read_bytes(NEW) == b"theirs\n"


@pytest.mark.parametrize("answer", ["", "stopped\n"])
def test_way_back_needs_networkmanager_to_run(site: Card, answer: str) -> None:
    record = moved(site)
    record.args["restore"] = [["nmcli", "connection", "reload"]]
    site.on("nmcli", "-t", "-f", "RUNNING", "general", answer=answer)
    with pytest.raises(StepFailed, match="NetworkManager is not running") as failed:
        undo.card(context(site), record.args)
    assert failed.value.code == "NQR-NET-170" and site.exists(NEW) and site.alarms.calls.count("set") == 1
    (line,) = shell.card(context(site), record.args)
    assert line.split("'")[2].split()[0] == "nmcli", "the script asks it too"


def test_record_names_the_folder_of_supervisords_programs(site: Card) -> None:
    made = replace(step(site), alarms=DetachedAlarms("/etc/elsewhere/supervisord.d"))
    (record,) = made.prepare(site).undo
    assert record.args["supervisor"] == "supervisord"
    assert alarms_of(record.args["supervisor"], record.args["programs_dir"]) == made.alarms


def test_refusal_of_the_plan_is_a_conflict(site: Card) -> None:
    made = step(site, lambda host, link, bridge: Conflict("NQR-NET-153", "eth0 is a wireless card.", "Name another."))
    found = made.inspect(site)
    assert isinstance(found, Conflict) and found.code == "NQR-NET-153"
    with pytest.raises(StepConflict, match="NQR-NET-153"):
        made.apply(site)


def test_words_and_shell_name_card_and_bridge(site: Card) -> None:
    (record,) = step(site).prepare(site).undo
    assert words.card(record.args).startswith(
        "take eth0 out of bridge fcbr0, with its addresses; the bridge comes back within 40 s"
    )
    (line,) = shell.card(context(site), record.args)
    assert line.startswith("take_card_back eth0 fcbr0 ") and f"rm -f {NEW}" in line and "networkctl reload" in line
    assert own_card.OwnCard.kind == "own-card"
    assert "No guard watches this" in shell.FUNCTIONS, "the script says so before it changes anything"


# --- whose bridge it is


def test_bridge_is_nqrs_as_long_as_its_files_are_as_written(site: Card) -> None:
    record = moved(site)
    assert own_card.own_bridges(site, (record, record)) == (OwnBridge("eth0", "fcbr0"),)
    site.put(NEW, "theirs\n")
    assert own_card.own_bridges(site, (record,)) == (), "an administrator's bridge of that name never becomes nqr's"
    site.remove(NEW)
    assert own_card.own_bridges(site, (record,)) == ()


def test_leases_change_without_anybody_taking_the_bridge_over(site: Card) -> None:
    record = moved(site)
    lease = {"path": "/var/lib/dhcp/dhclient.fcbr0.leases", "before": None, "mode": 0o644, "sha256": "0" * 64}
    record.args["files"].append(lease)
    site.put(lease["path"], "a newer lease\n")
    assert own_card.own_bridges(site, (record,)) != ()


def test_bridge_whose_files_are_gone_is_not_taken_apart(site: Card) -> None:
    record = moved(site)
    site.put(OLD, "old\n")
    site.remove(NEW)
    kept = undo.card(context(site), record.args)
    assert isinstance(kept, Kept) and "stays in fcbr0" in kept.why and site.exists(MASTER)


def test_card_that_left_the_bridge_is_a_conflict_and_no_second_move(site: Card) -> None:
    held = replace(step(site), held=True)
    found = held.inspect(site)
    assert isinstance(found, Conflict) and found.code == "NQR-NET-158"


# --- a run that was killed in the window


@pytest.mark.parametrize("state", [State.armed, State.fired])
def test_step_waits_for_a_guard_that_may_still_fire(site: Card, state: State) -> None:
    moved(site)
    site.put(state.path, "")
    found = step(site).inspect(site)
    assert isinstance(found, Conflict) and found.code == "NQR-NET-141" and "nqr network status" in found.cure


def test_step_starts_again_after_the_guard_fired(site: Card) -> None:
    site.put(State.restored.path, "")
    assert isinstance(step(site).inspect(site), Needed)
    assert isinstance(step(site).inspect(site), Needed)
    site.confirmed()
    step(site).apply(site)
    step(site).verify(site)


def test_undo_lets_the_guard_of_a_killed_run_fire_first(site: Card) -> None:
    (record,) = step(site).prepare(site).undo
    arm(site, site.change(), site.alarms, pid=1, window=40)
    assert undo.card(context(site), record.args) == Reverted("already given back")
    assert "go off" in site.alarms.calls and not site.exists(State.armed.path)


def test_way_back_says_what_it_waits_for(site: Card) -> None:
    record = moved(site)
    said: list[str] = []
    site.confirmed()
    assert undo.card(replace(context(site), tell=said.append), record.args) == Reverted()
    assert said and "touch /var/lib/nqrust-microvm/network-guard/confirm" in said[0], (
        "an earlier uninstall removed the link to nqr"
    )
    site.put(paths.NQR_LINK, "")
    assert how_to_confirm(site) == "nqr network confirm"


# --- other links


def test_another_link_of_the_same_name_stays(site: Card) -> None:
    site.put("/sys/class/net/fcbr0/ifalias", "\n")
    kept = undo.link(context(site), {"name": "fcbr0"})
    assert isinstance(kept, Kept) and "another interface" in kept.why
    (line,) = shell.link(context(site), {"name": "fcbr0"})
    assert line == "remove_net_link fcbr0 nqrust-microvm"
