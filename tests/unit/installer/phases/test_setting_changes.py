"""Every setting has a row for its change on a re-run. nqr refuses changes that would lose VMs."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from tests.fakes.host import FakeHost
from tests.places import ROOT
from tests.unit.installer.phases.a_host import fit, network

from nqrust.contract.credentials import hash_token
from nqrust.host.facts.model import Link, ListeningPort
from nqrust.host.secret import Secret
from nqrust.installer.preflight import changes, reach
from nqrust.installer.preflight.changes import CHANGES, FIRM, How
from nqrust.installer.preflight.findings import Severity
from nqrust.installer.preflight.run import Situation, run
from nqrust.installer.settings.model import Settings
from nqrust.installer.settings.options import OPTIONS
from nqrust.installer.settings.sources import nested

DOCUMENT = ROOT / "docs" / "reference" / "settings.md"
VMS = ("/srv/fc/vms/a",)
REMOTE = {"database.type": "remote", "database.host": "db1"}


def settings(flat: dict[str, Any]) -> Settings:
    return Settings.model_validate(nested(flat))


def refused(was: dict[str, Any], now: dict[str, Any], vms: tuple[str, ...] = ()) -> list[str]:
    return [f.code for f in changes.checks(settings(now), settings(was), fit(), vms)]


def test_every_setting_has_a_row_and_every_row_a_setting() -> None:
    assert CHANGES.keys() == {option.name for option in OPTIONS}


def test_the_documentation_shows_the_rows() -> None:
    text = DOCUMENT.read_text()
    for name, change in CHANGES.items():
        assert f"| {change.how.value} | `{name}` | {change.text} |" in text
        assert change.how is not How.refused or change.text.startswith("Refused")


NEVER: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"paths.install_dir": "/opt/other"}, "NQR-PRE-060"),
    ({}, {"paths.data_dir": "/srv/other"}, "NQR-PRE-060"),
    ({}, {"paths.config_dir": "/etc/other"}, "NQR-PRE-060"),
    ({}, {"paths.image_dir": "/srv/other"}, "NQR-PRE-060"),
    ({}, {"mode": "agent"}, "NQR-PRE-061"),
    ({"mode": "manager"}, {"mode": "agent"}, "NQR-PRE-061"),
    ({"mode": "agent"}, {"mode": "production"}, "NQR-PRE-061"),
    ({}, REMOTE, "NQR-PRE-062"),
    (REMOTE, {}, "NQR-PRE-062"),
    ({}, {"database.name": "other"}, "NQR-PRE-062"),
    ({}, {"database.user": "other"}, "NQR-PRE-062"),
]
WITH_VMS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"mode": "manager"}, "NQR-PRE-063"),
    ({}, {"network.bridge_name": "vmbr1"}, "NQR-PRE-063"),
    (
        {},
        {"network.cidr": "10.9.0.0/24", "network.dhcp_first": "10.9.0.10", "network.dhcp_last": "10.9.0.20"},
        "NQR-PRE-063",
    ),
    ({}, {"network.mode": "bridged"}, "NQR-PRE-063"),
    ({"network.mode": "bridged"}, {"network.mode": "isolated"}, "NQR-PRE-063"),
]
ALWAYS_FINE: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"components.ui": False}),
    ({"components.ui": False}, {}),
    ({}, {"components.container_runtime": True}),
    ({"components.container_runtime": True}, {}),
    ({}, {"mode": "minimal"}),
    ({"mode": "minimal"}, {}),
    ({"mode": "manager"}, {"mode": "production"}),
    ({}, {"mode": "dev"}),
    ({}, {"network.mode": "isolated"}),
    ({"network.mode": "isolated"}, {}),
    ({}, {"network.dhcp_first": "10.0.0.20", "network.dhcp_last": "10.0.0.30"}),
    ({}, {"network.uplink": "eth0", "network.window": 300}),
    ({}, {"vmm": "qemu"}),
    ({}, {"firecracker_version": "1.14.1", "firecracker": "/root/f.tgz"}),
    ({}, {"nested": True}),
    ({}, {"manager.bind": "127.0.0.1:8000", "agent.bind": "0.0.0.0:8001", "ui.bind": "0.0.0.0:8002"}),
    ({}, {"manager.allow_image_paths": False, "manager.disk_overcommit": 1.5, "manager.reconciler_disabled": True}),
    ({}, {"manager.events_days": 7, "manager.audit_days": 30, "manager.operations_days": 3650}),
    ({}, {"agent.name": "kvm7", "agent.advertise_address": "192.0.2.10"}),
    ({}, {"database.host": "127.0.0.1"}),
    ({}, {"database.port": 5433}),
    ({}, {"database.password_file": "/root/p"}),
    (REMOTE, {**REMOTE, "database.host": "db2", "database.name": "vms"}),
    (REMOTE, {**REMOTE, "database.ca": "/root/db-ca.pem"}),
    ({}, {"release.public_key": "/root/key", "release.source_dir": "/root/src", "release.mirror": "https://m/v1"}),
    ({}, {"tls.mode": "off"}),
    ({}, {"tls.certificate": "/root/vms.pem", "tls.key": "/root/vms.key"}),
    ({"mode": "agent"}, {"mode": "agent", "agent.manager_base": "http://m2:18080", "agent.join_token_file": "/root/t"}),
]


def test_the_tables_here_name_every_setting() -> None:
    named = {key for was, now, *_ in (*NEVER, *WITH_VMS, *ALWAYS_FINE) for key in (*was, *now)}
    assert named | {"release.source"} == {option.name for option in OPTIONS}


@pytest.mark.parametrize(("was", "now", "code"), NEVER)
def test_setting_change_that_loses_data_is_refused(was: dict[str, Any], now: dict[str, Any], code: str) -> None:
    assert refused(was, now) == [code] and code in FIRM


@pytest.mark.parametrize(("was", "now", "code"), WITH_VMS)
def test_setting_change_that_vms_depend_on_is_refused_while_vms_exist(
    was: dict[str, Any], now: dict[str, Any], code: str
) -> None:
    assert refused(was, now, VMS) == [code] and refused(was, now) == [] and code in FIRM


@pytest.mark.parametrize(("was", "now"), ALWAYS_FINE)
def test_other_settings_change_while_vms_run(was: dict[str, Any], now: dict[str, Any]) -> None:
    assert refused(was, now, VMS) == []
    assert refused(now, now, VMS) == []


def test_move_of_a_local_database_to_another_cluster_is_refused() -> None:
    from nqrust.host.facts.model import PostgresCluster

    clusters = tuple(PostgresCluster(15, name, port, True, "postgres", "/d") for name, port in (("main", 5432), ("two", 5433)))
    found = list(changes.checks(settings({"database.port": 5433}), Settings(), fit(postgres=clusters), ()))
    assert [f.code for f in found] == ["NQR-PRE-062"] and "5432 to 5433" in found[0].what


def test_refusals_that_protect_vms_cannot_be_ignored() -> None:
    situation = Situation(installed=Settings(), known=True)
    found = run(settings({"paths.data_dir": "/srv/other"}), fit(), FakeHost.debian12(), situation, ("NQR-PRE-060",))
    assert [(f.code, f.severity) for f in found] == [("NQR-PRE-060", Severity.error)]


def test_without_an_installation_nothing_is_compared() -> None:
    assert run(settings({"paths.data_dir": "/srv/other"}), fit(), FakeHost.debian12(), Situation(vms=VMS)) == []


# --- ports and bridges of our own


def listening(port: int, pid: int) -> ListeningPort:
    return ListeningPort("tcp", "0.0.0.0", port, pid, "ui")


def test_port_held_by_the_product_is_not_taken() -> None:
    """An interrupted run switched the web UI off, so it still runs. This run switches it on again."""
    facts, off = fit(ports=(listening(3000, 77),)), settings({"components.ui": False})
    assert run(Settings(), facts, FakeHost.debian12(), Situation(installed=off, known=True, own=frozenset({77}))) == []
    found = run(Settings(), facts, FakeHost.debian12(), Situation(installed=off, known=True))
    assert [f.code for f in found] == ["NQR-PRE-007"], "a process that is not of this installation"
    moved = settings({"components.ui": False, "manager.bind": "0.0.0.0:3000"})
    assert run(moved, facts, FakeHost.debian12(), Situation(installed=Settings(), known=True, own=frozenset({77}))) == []


def test_the_port_of_the_guest_listener_is_no_setting_and_still_taken() -> None:
    found = run(settings({"ui.bind": "0.0.0.0:19091"}), fit(), FakeHost.debian12(), Situation())
    assert [f.code for f in found] == ["NQR-PRE-007"] and "guest listener" in found[0].what


def test_bridge_of_earlier_settings_causes_no_conflict() -> None:
    facts = fit(network=network(Link("fcbr0", "bridge", True, "", addresses=("10.0.0.1/24",))))
    new = settings({"network.bridge_name": "vmbr1"})
    ours = Situation(installed=Settings(), known=True, former=(Settings(),))
    assert run(new, facts, FakeHost.debian12(), ours) == []
    assert [f.code for f in run(new, facts, FakeHost.debian12(), Situation())] == ["NQR-PRE-020"]
    moved = settings({"network.cidr": "10.9.0.0/24", "network.dhcp_first": "10.9.0.10", "network.dhcp_last": "10.9.0.20"})
    assert run(moved, facts, FakeHost.debian12(), ours) == []
    assert [f.code for f in run(moved, facts, FakeHost.debian12(), Situation())] == ["NQR-PRE-028"]


# --- an agent and its manager


@pytest.mark.parametrize(
    ("answer", "vms", "codes"),
    [(204, VMS, []), (401, VMS, ["NQR-PRE-064"]), (401, (), ["NQR-PRE-025"]), (403, VMS, ["NQR-PRE-064"])],
)
def test_an_agent_changes_its_manager_only_without_vms_or_to_one_that_knows_it(
    answer: int, vms: tuple[str, ...], codes: list[str]
) -> None:
    was = settings({"mode": "agent", "agent.manager_base": "http://m1:18080"})
    now = settings({"mode": "agent", "agent.manager_base": "http://m2:18080"})
    host = FakeHost.debian12()
    host.pages["http://m2:18080/health"] = (200, b'{"status":"ok"}')
    host.pages["http://m2:18080/v1/hosts/join-check"] = (answer, b"{}")
    situation = Situation(installed=was, known=True, agent_token=Secret("nqr_a"), vms=vms)
    assert [f.code for f in run(now, fit(), host, situation)] == codes


# --- a remote database that moved


class Answers:
    """A database connection, with its answer about the token."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def execute(self, query: str, values: tuple[str, ...]) -> Answers:
        assert values == (hash_token("nqr_c"),)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self

    def fetchone(self) -> object:
        return self.answer


@pytest.mark.parametrize(
    ("answer", "ours"),
    [((1,), True), (None, False), (psycopg.errors.UndefinedTable(), False), (psycopg.errors.InsufficientPrivilege(), False)],
)
def test_a_database_is_known_by_the_token_that_the_installation_made(answer: object, ours: bool) -> None:
    assert reach._is_ours(Answers(answer), Secret("nqr_c")) is ours  # type: ignore[arg-type]


def test_only_another_remote_database_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Secret | None] = []
    monkeypatch.setattr(reach, "remote_database", lambda s, p, a, token, ca: asked.append(token) or ())
    token, was = Secret("nqr_c"), settings(REMOTE)
    for now in (
        REMOTE,
        {**REMOTE, "database.password_file": "/root/p", "database.ca": "/root/c"},
        {**REMOTE, "database.host": "db2"},
    ):
        run(settings(now), fit(), FakeHost.debian12(), Situation(installed=was, known=True, cli_token=token))
    run(settings(REMOTE), fit(), FakeHost.debian12(), Situation(cli_token=token))
    assert asked == [None, None, token, None]
