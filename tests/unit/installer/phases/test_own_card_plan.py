"""Bridged mode with the host's own card: what the plan has of it, and what preflight refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.phases.a_host import fit, network
from tests.unit.installer.phases.test_rendered_files import RELEASE, SECRETS
from tests.unit.installer.uplink.cards import host, rows

from nqrust.host.errors import HostError
from nqrust.host.facts.model import Link
from nqrust.installer import planner
from nqrust.installer.context import Context, ReleaseFiles
from nqrust.installer.engine.events import Notice
from nqrust.installer.engine.runner import RunResult
from nqrust.installer.operations import gate, summary
from nqrust.installer.phases import deps
from nqrust.installer.phases.network import to_the_lan
from nqrust.installer.preflight import own_card, run
from nqrust.installer.release.interpreter import Interpreter
from nqrust.installer.request import Request
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.network.guard import asking
from nqrust.installer.verbs.network.guard.folder import State
from nqrust.installer.verbs.network.own_card import OwnBridge, OwnCard
from nqrust.installer.verbs.network.ready import ReadyBridge

BRIDGE = Link("br0", "bridge", True, "x", addresses=("192.0.2.10/24",))
OURS = (OwnBridge("eth1", "br0"),)


def settings(**given: Any) -> Settings:
    return Settings.model_validate({"network": {"mode": "bridged", "bridge_name": "br0", **given}})


def context(*links: Link, own: tuple[OwnBridge, ...] = (), supervisor: str = "systemd", **given: Any) -> Context:
    return Context(
        settings=settings(**given),
        facts=fit(network=network(*links), supervisor=supervisor),
        secrets=SECRETS,
        files=ReleaseFiles(RELEASE, "/var/cache/nqrust-microvm/releases/1.2.3"),
        python=Interpreter("/usr/bin/python3.11", "3.11.2", "/usr/bin/python3.11"),
        own_bridges=own,
    )


# --- the plan


@pytest.mark.parametrize(
    ("made", "link", "window", "held"),
    [
        (context(), "eth0", 120, False),
        (context(uplink="eth7", window=300), "eth7", 300, False),
        (context(BRIDGE, own=OURS), "eth1", 120, True),
        (context(own=OURS), "eth1", 120, True),
        (context(own=(OwnBridge("eth1", "br7"),)), "eth0", 120, False),
    ],
    ids=["the default route's card", "another card", "nqr's own bridge", "nqr's own bridge that has gone", "of another bridge"],
)
def test_the_plan_puts_the_card_into_the_bridge(made: Context, link: str, window: int, held: bool) -> None:
    step = to_the_lan(made)
    assert isinstance(step, OwnCard)
    assert (step.link, step.bridge, step.window, step.held) == (link, "br0", window, held)
    assert step.describe().startswith(
        f"put {link} and its addresses into bridge br0; the old network comes back within {window} s"
    )
    (phase,) = [one for one in planner.plan(made).phases if one.name == "network"]
    assert phase.steps[0] == step
    assert step.interruption is made.interruption, "a signal to the run ends the wait"


@pytest.mark.parametrize("own", [(), (OwnBridge("eth1", "br7"),)], ids=["no own bridge", "another own bridge"])
def test_a_bridge_of_the_administrator_stays_theirs(own: tuple[OwnBridge, ...]) -> None:
    assert to_the_lan(context(BRIDGE, own=own)) == ReadyBridge("br0")


def test_the_alarms_are_those_of_the_supervisor() -> None:
    for supervisor, name in (("systemd", "systemd"), ("none", "supervisord")):
        step = to_the_lan(context(supervisor=supervisor))
        assert isinstance(step, OwnCard) and step.alarms.name == name


def test_an_own_card_needs_the_packages_of_a_ready_bridge_and_no_others() -> None:
    assert deps.roles(context()) == deps.roles(context(BRIDGE)) and "nftables" in deps.roles(context())


@pytest.mark.parametrize(
    ("made", "changed", "says"), [(context(), 3, True), (context(), 0, False), (context(BRIDGE), 3, False)],
    ids=["moved", "a re-run", "a ready bridge"],
)  # fmt: skip
def test_the_summary_names_the_card_and_its_way_back(made: Context, changed: int, says: bool) -> None:
    notes = summary.finished(RunResult("x", changed=changed), (), made, Request(made.settings)).notes
    assert any(note.startswith("eth0 is a port of br0") and "nqr uninstall" in note for note in notes) is says


# --- preflight


def card(name: str = "debian-12-networkd-dhcp", **changes: Any) -> FakeHost:
    return host({**next(iter(rows().values())), **changes})


def found(machine: FakeHost, own: tuple[OwnBridge, ...] = (), **given: Any) -> list[tuple[str, str, str]]:
    """Code, severity and text of each finding for the first row's card."""
    links = (Link("ens3", "", True, "x", addresses=("10.0.3.12/24",)),)
    asked = settings(**{"uplink": "ens3", **given})
    seen = own_card.checks(asked, fit(network=network(*links)), machine, own)
    return [(one.code, one.severity.value, f"{one.what} {one.cure}") for one in seen]


def test_preflight_says_what_moves_and_what_must_answer() -> None:
    ((code, severity, text),) = found(card(), window=90)
    assert (code, severity) == ("NQR-NET-161", "warning")
    for part in ("ens3 (netplan (systemd-networkd))", "br0", "10.0.3.12/24", "10.0.3.1)", "within 90 s".capitalize(), "confirm"):
        assert part in text, part


@pytest.mark.parametrize(
    ("machine", "code", "says"),
    [
        (card(missing=True), "NQR-NET-150", "no network card ens3"),
        (card(network_file=None), "NQR-NET-151", "No network manager"),
        (card(ifstate="ens3=ens3\n"), "NQR-NET-152", "netplan (systemd-networkd) and ifupdown"),
        (card(wireless=True), "NQR-NET-153", "wireless"),
        (card(master="bond0", master_kind="bond"), "NQR-NET-154", "Name bond0 with --uplink"),
        (card(master="br7"), "NQR-NET-154", "--bridge-name br7"),
        (card(kind="wireguard"), "NQR-NET-155", "wireguard"),
        (card(addresses=["2001:db8::2/64"]), "NQR-NET-160", "no IPv4 address"),
        (card(lease=None), "NQR-NET-200", "no lease at present"),
    ],
    ids=[
        "no card",
        "nobody's",
        "two managers",
        "Wi-Fi",
        "a bond's port",
        "a bridge's port",
        "no card's kind",
        "IPv6 only",
        "no lease",
    ],
)
def test_preflight_refuses_a_card_that_cannot_move(machine: FakeHost, code: str, says: str) -> None:
    if code == "NQR-NET-152":
        machine.install("ifup")
    ((seen, severity, text),) = found(machine)
    assert (seen, severity) == (code, "error") and says in text
    assert code in own_card.CODES, "no flag lifts it"


def test_preflight_refuses_a_card_that_cannot_be_read() -> None:
    machine = card()
    machine.on("ip", "-json", "-details", "address", "show", answer=HostError("ip is missing"))
    ((code, _, text),) = found(machine)
    assert code == "NQR-NET-159" and "ip is missing" in text


def test_preflight_leaves_nqrs_own_bridge_alone_and_exchanges_no_card() -> None:
    own = (OwnBridge("ens3", "br0"),)
    assert found(card(), own) == [] == found(card(), own, uplink=None)
    ((code, _, text),) = found(card(), own, uplink="eth0")
    assert code == "NQR-NET-157" and "ens3" in text and "eth0" in text
    whole = run.run(settings(), fit(network=network(replace(BRIDGE, up=False))), card(), run.Situation(own_bridges=own))
    assert not [one for one in whole if one.severity.value == "error"], "checks of an administrator's bridge do not count"


@pytest.mark.parametrize("state", [State.armed, State.fired])
@pytest.mark.parametrize("mode", ["bridged", "nat"])
def test_nothing_is_installed_while_the_old_network_may_come_back(state: State, mode: str) -> None:
    machine = card()
    machine.put(state.path, "")
    assert found(machine, mode=mode)[0][:2] == ("NQR-NET-141", "error")


def test_a_decided_guard_refuses_nothing() -> None:
    machine = card()
    machine.put(State.restored.path, "")
    assert [code for code, *_ in found(machine)] == ["NQR-NET-161"]


# --- a restart in the window


class Events(list[Any]):
    def emit(self, event: Any) -> None:
        self.append(event)


def test_without_systemd_the_next_run_brings_the_old_network_back_first(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def at_start(machine: object) -> bool:
        asked.append(machine)
        return True

    monkeypatch.setattr(asking, "at_start", at_start)
    events, machine = Events(), FakeHost.debian12()
    machine.put_directory("/run/systemd/system")
    gate.old_network_first(machine, events)
    assert asked == [] == events, "systemd has a unit for it"
    plain = FakeHost()
    gate.old_network_first(plain, events)
    assert asked == [plain] and isinstance(events[0], Notice) and events[0].text.startswith("The old network is back")
