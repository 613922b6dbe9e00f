"""A package manager is its own parts and a line in the registry. No other code of the installer knows it."""

from __future__ import annotations

import json

import pytest
from tests.fakes.host import FakeHost
from tests.fakes.journal import MemoryJournalStore
from tests.fakes.package_manager import DATABASE, few

from nqrust.contract import paths
from nqrust.host.errors import CommandFailed
from nqrust.host.port import Command
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.plan import PhasePlan, Plan
from nqrust.installer.engine.receipt import Receipt
from nqrust.installer.engine.rollback import roll_back
from nqrust.installer.engine.runner import Runner
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.fingerprint import Fingerprint, compare, take, volatile
from nqrust.installer.operations.site import facts_for
from nqrust.installer.release import bootstrap_record
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.packages import registry, traces
from nqrust.installer.verbs.packages import shell as script
from nqrust.installer.verbs.packages.step import PackageIndex, Packages
from nqrust.installer.verbs.registry import VERBS


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    monkeypatch.setitem(registry.MANAGERS, "few", few())
    host = FakeHost.debian12()
    host.remove("/var/lib/dpkg/status")
    host.put(DATABASE, "base 1.0\n")
    for program in ("systemctl", "iptables-save"):
        host.on(program, prefix=True, answer="")

    def act(host: FakeHost, cmd: Command) -> None:
        names = {line for line in host.read_text(DATABASE).splitlines() if line}
        given = {f"{name} 1.0" for name in cmd.argv[2:]}
        left = names | given if cmd.argv[1] == "add" else names - given
        host.put(DATABASE, "".join(f"{line}\n" for line in sorted(left)))

    for verb in ("add", "remove"):
        host.on("few", verb, prefix=True, changes=True, answer=act)
    return host


def originals(host: FakeHost) -> Originals:
    return Originals(host, f"{paths.STATE_DIR}/originals")


def installed(host: FakeHost) -> Journal:
    journal, manager = Journal(MemoryJournalStore(), host.now), few().installing
    steps = (PackageIndex(("server",), manager), Packages(("server",), manager))
    result = Runner(VERBS, host, journal, originals(host), NullReporter()).run(
        Plan((PhasePlan("deps", "Packages", steps),)), "install", "1", {}
    )
    assert result.failure is None
    return journal


def changed(before: Fingerprint, after: Fingerprint) -> list[str]:
    found = compare(before, after)
    assert not any(one.key.startswith("/var/lib/few") for one in found)
    return [one.key for one in found if one.section == "packages"]


def test_third_manager_installs_lists_and_removes_packages(host: FakeHost) -> None:
    before = take(host)
    assert before.sections["packages"] == {"base:all": "1.0"}
    journal = installed(host)
    assert changed(before, take(host)) == ["server:all"]
    assert facts_for(host, Settings()).packages == {"base", "server"}
    context = UndoContext(host, originals(host))
    assert not roll_back(VERBS, context, journal, "back", Receipt.of(journal).entries, NullReporter()).failed
    assert changed(before, take(host)) == []


def test_third_manager_declares_its_volatile_paths(host: FakeHost) -> None:
    assert volatile.paths().match(DATABASE) and volatile.units().match("few-daily.service")
    assert "/var/lib/few" in registry.closed() and "/var/lib/few" not in traces.CLOSED
    host.on("dpkg-query", prefix=True, answer="")
    assert "few-postgresql" in registry.of_postgres(host)


def test_third_manager_contributes_to_the_undo_script(host: FakeHost) -> None:
    journal = installed(host)
    (entry,) = Receipt.of(journal).entries[-1:]
    (undo,) = entry.undo
    lines = list(script.packages(UndoContext(host, originals(host)), undo.args))
    assert "if purge few server; then" in lines
    functions = script.functions()
    for part in (few().shell.functions, few().shell.owns, f"few) {few().shell.state} ;;", "few) remove_few ;;"):
        assert part in functions


def test_third_manager_removes_bootstrap_packages(host: FakeHost) -> None:
    host.put(bootstrap_record.RECORD, json.dumps({"schema": 1, "manager": "few", "packages": ["python"]}))
    record = bootstrap_record.read(host)
    assert record is not None and record.manager == "few"
    assert bootstrap_record.farewell(record).endswith("few farewell python\n")


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("never heard of server", "NQR-DEP-103"),
        ("no more shelves", "NQR-DEP-104"),
        ("server is far away", "NQR-DEP-105"),
        ("no", "NQR-DEP-106"),
    ],
)
def test_third_manager_errors_are_recognised(host: FakeHost, said: str, code: str) -> None:
    def fail(host: FakeHost, cmd: Command) -> None:
        raise CommandFailed(cmd.argv, 1, f"chatter\nfew: {said}\n")

    host.on("few", "add", prefix=True, changes=True, answer=fail)
    step = Packages(("server",), few().installing)
    step.prepare(host)
    with pytest.raises(StepFailed, match=code) as failed:
        step.apply(host)
    assert failed.value.what.endswith(f": {said}."), "without the manager's label"


def test_third_manager_output_becomes_progress(host: FakeHost) -> None:
    host.on("few", "add", prefix=True, changes=True, answer="to place: 2\nchatter\nplaced base\nplaced server\n")
    heard: list[tuple[str, float | None]] = []
    step = Packages(("server",), few().installing, progress=lambda text, fraction: heard.append((text, fraction)))
    step.prepare(host)
    step.apply(host)
    assert heard == [("placed base", 0.5), ("placed server", 1.0)]
