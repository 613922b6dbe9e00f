"""The packages that a rollback of a transaction removes, with a small package manager."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import pytest
from tests.fakes.host import FakeHost
from tests.fakes.journal import MemoryJournalStore
from tests.fakes.package_manager import few as third

from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.receipt import Receipt
from nqrust.installer.engine.rollback import roll_back
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.engine.verb import Kept, Outcome, Partly, Reverted, UndoContext
from nqrust.installer.verbs.packages import traces
from nqrust.installer.verbs.packages import undo as verb
from nqrust.installer.verbs.packages.apt.removing import clusters
from nqrust.installer.verbs.packages.dnf.removing import clusters as rpm_clusters
from nqrust.installer.verbs.packages.registry import MANAGERS
from nqrust.installer.verbs.registry import VERBS

NEEDS = {"server": {"library"}, "client": {"library"}, "theirs": {"server"}}


class Few:
    """Installed packages. `drags`: the packages that a removal takes along, for any reason."""

    def __init__(self, installed: set[str], drags: dict[str, str]) -> None:
        self.installed, self.drags = installed, drags

    def remover(self) -> verb.Remover:
        def purge(host: FakeHost, names: set[str], configured: set[str]) -> None:
            self.installed -= names | {self.drags[name] for name in names if name in self.drags}

        def would_go(host: FakeHost, names: list[str]) -> set[str]:
            return {*names, *(self.drags[name] for name in names if self.drags.get(name) in self.installed)}

        return verb.Remover(
            lambda host: lambda name: name, lambda host: set(self.installed), lambda host: set(), would_go, lambda host: NEEDS, purge,  # type: ignore[arg-type]
            lambda host, names: "", lambda host, names: frozenset(), clusters=clusters,
        )  # fmt: skip


def taken_back(few: Few, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    monkeypatch.setitem(MANAGERS, "few", third(few.remover()))
    host = FakeHost.debian12()
    args: dict[str, Any] = {"manager": "few", "before": ["base", "theirs", "stranger"], "manual": []}
    return verb.packages(UndoContext(host, Originals(host, "/var/lib/nqrust-microvm/originals")), args)


def test_undo_removes_all_installed_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    few = Few({"base", "server", "client", "library"}, {})
    assert isinstance(taken_back(few, monkeypatch), Reverted)
    assert few.installed == {"base"}


def test_undo_keeps_needed_packages_with_their_dependencies(monkeypatch: pytest.MonkeyPatch) -> None:
    few = Few({"base", "theirs", "server", "client", "library"}, {"server": "theirs"})
    outcome = taken_back(few, monkeypatch)
    assert outcome == Kept("packages that others need now stay: library, server")
    assert few.installed == {"base", "theirs", "server", "library"}


def test_undo_removes_nothing_when_an_unexplained_package_would_go(monkeypatch: pytest.MonkeyPatch) -> None:
    few = Few({"base", "stranger", "client", "library"}, {"client": "stranger"})
    assert isinstance(taken_back(few, monkeypatch), Kept)
    assert few.installed == {"base", "stranger", "client", "library"}


@pytest.mark.parametrize(
    ("files", "stays"),
    [
        (["1/1259", "4/1259", "5/1259"], False),
        (["1/1259", "4/1259", "5/1259", "5/2619_fsm"], False),
        (["5/1259", "16390/1259"], True),
        (["5/1259", "5/16384_fsm"], True),
    ],
    ids=["empty", "system tables", "a database", "a table in the database postgres"],
)
def test_uninstall_keeps_a_postgresql_with_data_of_others(monkeypatch: pytest.MonkeyPatch, files: list[str], stays: bool) -> None:
    """A purge of Debian's postgresql-common drops every cluster."""
    few = Few({"base", "server", "client", "library", "postgresql-15"}, {})
    monkeypatch.setitem(MANAGERS, "few", third(few.remover()))
    host = FakeHost.debian12()
    host.put("/var/lib/postgresql/15/main/PG_VERSION", "15\n")
    for name in files:
        host.put(f"/var/lib/postgresql/15/main/base/{name}", "")
    outcome = verb.packages(
        UndoContext(host, Originals(host, "/var/lib/nqrust-microvm/originals")),
        {"manager": "few", "before": ["base"], "manual": []},
    )
    assert few.installed == ({"base", "postgresql-15"} if stays else {"base"})
    assert isinstance(outcome, Partly if stays else Reverted)
    assert not isinstance(outcome, Partly) or "/var/lib/postgresql/15/main holds data" in outcome.why


@pytest.mark.parametrize("when", ["after the packages", "before the packages"])
def test_the_server_of_a_cluster_with_data_of_others_stays_with_what_it_needs(monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """On RHEL, rpm leaves the data, but nothing could read it. Data from before then stays the same."""
    host, data = FakeHost.debian12(), "/var/lib/pgsql/data"
    context = UndoContext(host, Originals(host, "/var/lib/nqrust-microvm/originals"))
    if when == "before the packages":
        host.put_directory(data)
    survey = traces.pack(traces.survey(host))
    blob = hashlib.sha256(survey).hexdigest()
    host.put(context.originals.blob(blob), survey)
    few = Few({"base", "postgresql-server", "library", "client"}, {})
    monkeypatch.setitem(NEEDS, "postgresql-server", {"library"})
    monkeypatch.setitem(MANAGERS, "few", third(dataclasses.replace(few.remover(), clusters=rpm_clusters)))
    for name in ("PG_VERSION", "base/16390/1259"):
        host.put(f"{data}/{name}", "")
    args = {"manager": "few", "before": ["base"], "manual": [], "survey": blob}
    made = traces.pack(traces.NOTHING)
    args["made"] = hashlib.sha256(made).hexdigest()
    host.put(context.originals.blob(str(args["made"])), made)
    outcome = verb.packages(context, args)
    stays = when == "after the packages"
    assert isinstance(outcome, Partly if stays else Reverted)
    assert few.installed == ({"base", "postgresql-server", "library"} if stays else {"base"})


def test_a_cluster_of_a_server_that_stays_keeps_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The administrator's server was there before; nqr brought the metapackage and a client."""
    few = Few({"base", "postgresql-15", "postgresql", "postgresql-client-16", "postgresql-16"}, {})
    monkeypatch.setitem(MANAGERS, "few", third(few.remover()))
    host = FakeHost.debian12()
    for name in ("PG_VERSION", "base/16390/1259"):
        host.put(f"/var/lib/postgresql/15/main/{name}", "")
    args = {"manager": "few", "before": ["base", "postgresql-15"], "manual": []}
    assert isinstance(verb.packages(UndoContext(host, Originals(host, "/var/lib/nqrust-microvm/originals")), args), Reverted)
    assert few.installed == {"base", "postgresql-15"}


def test_undo_removes_files_of_an_interrupted_transaction_except_earlier_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    host = FakeHost.debian12()
    context = UndoContext(host, Originals(host, "/var/lib/nqrust-microvm/originals"))
    host.put_directory("/etc/library")
    survey = traces.pack(traces.survey(host))
    blob = hashlib.sha256(survey).hexdigest()
    host.put(context.originals.blob(blob), survey)
    host.put_directory("/usr/share/library")
    unpacked = {"paths": {"/etc/library": ["directory"], "/usr/share/library": ["directory"]}, "users": [], "groups": []}
    remover = dataclasses.replace(
        Few({"base"}, {}).remover(), leftovers=lambda host, names: unpacked if names == {"library"} else traces.NOTHING
    )
    monkeypatch.setitem(MANAGERS, "few", third(remover))
    args: dict[str, Any] = {"manager": "few", "before": ["base"], "manual": [], "brought": ["library"], "survey": blob}
    assert isinstance(verb.packages(context, args), Reverted)
    assert host.exists("/etc/library") and not host.exists("/usr/share/library")


def test_resumed_transaction_is_undone_by_its_first_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after “server” was unpacked, but not “library”, which it needs. The next run brought that."""
    few = Few({"base", "server", "library"}, {"library": "server"})
    monkeypatch.setitem(MANAGERS, "few", third(few.remover()))
    host = FakeHost.debian12()
    originals = Originals(host, "/var/lib/nqrust-microvm/originals")
    journal = Journal(MemoryJournalStore(), host.now)
    journal.append("run", "r", verb="install", version="1", settings={}, resumes=[])
    for number, (before, brought) in enumerate(((["base"], ["server", "library"]), (["base", "server"], ["library"]))):
        args = {"manager": "few", "before": before, "manual": [], "config_only": [], "brought": brought}
        step = {"id": f"packages{number}", "kind": "packages", "phase": "deps", "describe": "packages"}
        journal.append(
            "begin", "r", step=step, origin="created", undo=[VERBS.capture(originals, Undo("packages", args)).to_json()]
        )
    result = roll_back(VERBS, UndoContext(host, originals), journal, "u", Receipt.of(journal).entries, NullReporter())
    assert (result.kept, result.failed, few.installed) == ((), (), {"base"})
