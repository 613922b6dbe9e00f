"""A host with a platform that somebody may have used: steps, runs, a VM, and the two verbs that take things back."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from tests.fakes.host import FakeHost
from tests.fakes.journal import MemoryJournalStore

from nqrust.contract import paths
from nqrust.contract.paths import Layout
from nqrust.host.errors import CommandFailed
from nqrust.host.facts.model import PostgresCluster
from nqrust.installer import operations
from nqrust.installer.engine.errors import Interrupted
from nqrust.installer.engine.events import Event, Notice, NullReporter
from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.plan import PhasePlan, Plan
from nqrust.installer.engine.receipt import Receipt
from nqrust.installer.engine.runner import Runner, RunResult
from nqrust.installer.engine.step import Inspection, Needed, Origin, Prepared, Step
from nqrust.installer.engine.undo_record import Retain
from nqrust.installer.operations import gate
from nqrust.installer.operations.belongings import Belongings
from nqrust.installer.operations.site import ChangingSite
from nqrust.installer.request import Request, RunOptions, Summary
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.file.directory import Directory
from nqrust.installer.verbs.file.file import File
from nqrust.installer.verbs.registry import VERBS

LAYOUT = Layout()
NEEDED = Needed(("x",))
DUMP = f"{LAYOUT.backups_dir}/nqrust-before-2.dump"
DISK = f"{LAYOUT.vms_dir}/a/disk.ext4"
CLUSTER = PostgresCluster("15", "main", 5432, True, "postgres", data_dir="/var/lib/postgresql/15/main", socket_dir="/run/pg")
FOLDERS: tuple[Step, ...] = (
    File("/etc/app.conf", "one\n"),
    Directory(LAYOUT.install_dir, adopt_modes=True),
    Directory(LAYOUT.data_dir, tree=True, retain=Retain.data),
    Directory(LAYOUT.vms_dir, tree=True, retain=Retain.data),
    Directory(LAYOUT.volumes_dir, tree=True, retain=Retain.data),
    Directory(LAYOUT.image_dir, tree=True, retain=Retain.data),
    Directory(f"{LAYOUT.image_dir}/tiny", tree=True, retain=Retain.data),
    Directory(LAYOUT.backups_dir, mode=0o700, tree=True, adopt_modes=True),
)


@dataclass(frozen=True)
class Made:
    """A step with records of its own. `found`: what its inspection says. `does`: to the host."""

    id: str
    undo: tuple[Any, ...] = ()
    found: Inspection = NEEDED
    does: Callable[[Any], object] = lambda host: None
    kind: str = "made"

    def describe(self) -> str:
        return self.id

    def inspect(self, host: Any) -> Inspection:
        return self.found

    def prepare(self, host: Any) -> Prepared:
        return Prepared(Origin.created, self.undo)

    def apply(self, host: Any) -> None:
        self.does(host)

    def verify(self, host: Any) -> None:
        pass


def fails(host: Any) -> None:
    raise CommandFailed(("x",), 1, "no")


def interrupted(host: Any) -> None:
    raise Interrupted("NQR-ENG-003", "It was interrupted.", "Run it again.")


class Bench:
    def __init__(self) -> None:
        self.host, self.store = FakeHost.debian12(), MemoryJournalStore()
        self.host.put_directory("/srv")
        self.host.on("dpkg-query", prefix=True, answer="")
        self.said: list[str] = []

    def site(self) -> ChangingSite:
        return ChangingSite(self.host, Journal(self.store, self.host.now), Originals(self.host, paths.ORIGINALS_DIR))

    def run(self, *steps: Step, ends: bool = True, keep: bool = False) -> RunResult:
        """A run with the settings of an install. `ends`: otherwise it is killed after its last step."""
        site, bench = self.site(), self

        class Told(NullReporter):
            def emit(self, event: Event) -> None:
                if isinstance(event, Notice):
                    bench.said.append(event.text)

        runner = Runner(
            VERBS, self.host, site.journal, site.originals, Told(), keep_on_failure=keep, spared=Belongings(site).spared
        )
        settings = Settings().model_dump(mode="json")
        done = runner.run(Plan((PhasePlan("p", "P", steps),)), "install", "1", settings)
        if not ends:
            self.store.data = b"".join(line for line in self.store.data.splitlines(keepends=True) if b'"type":"end"' not in line)
        return done

    def vm(self, name: str = "web1") -> None:
        self.host.put_directory(f"{LAYOUT.vms_dir}/a")
        self.host.put(DISK, "disk")
        self.host.put(f"{LAYOUT.vms_dir}/a/vm.json", json.dumps({"name": name}))

    @property
    def receipt(self) -> Receipt:
        return self.site().receipt


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench()
    monkeypatch.setattr(gate, "open_to_change", lambda events: made.site())
    monkeypatch.setattr(gate, "open_site", lambda events: made.site())
    monkeypatch.setattr(gate, "exclusive", lambda *_: contextlib.nullcontext(contextlib.nullcontext))
    monkeypatch.setattr(importlib.import_module("nqrust.installer.operations.remove"), "_preload", lambda: None)
    return made


def rollback(**options: Any) -> Summary:
    return operations.rollback(Request(Settings(), RunOptions(**options)), NullReporter())


def uninstall(**options: Any) -> Summary:
    return operations.uninstall(Request(Settings(), RunOptions(**options)), NullReporter())
