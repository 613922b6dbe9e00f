"""`nqr install`, `plan`, `phase run`, `rollback` and `uninstall` from the command line down to a host in memory. Only three
parts are replaced: the machine, the proofs, and the plan, which has a few small steps."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.host import FakeHost
from tests.fakes.journal import MemoryJournalStore
from tests.unit.installer.effects.observing import context_of
from tests.unit.installer.phases.a_host import fit

from nqrust.cli import app, session
from nqrust.cli.__main__ import run
from nqrust.cli.install import gathering
from nqrust.contract import paths
from nqrust.host.facts.model import Memory
from nqrust.installer import planner, secret_store
from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.journal_file import ReadOnlyJournalStore
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.plan import PhasePlan, Plan
from nqrust.installer.engine.undo_record import Retain
from nqrust.installer.operations import gate, proof_of_clean, proving
from nqrust.installer.operations.site import ChangingSite, Site
from nqrust.installer.reporting import logfile
from nqrust.installer.settings.sources import gather
from nqrust.installer.verbs.file.directory import Directory
from nqrust.installer.verbs.file.file import File

TREE = app.command()
FILE, DATA, DATABASE, PACKAGES = "/etc/of-nqr", "/srv/data-of-nqr", "/srv/database-of-nqr", "/srv/packages-of-nqr"
"""Paths that the plan creates. The folders stand for data that uninstall keeps."""


class Unwritable(MemoryJournalStore):
    append, truncate, discard = ReadOnlyJournalStore.append, ReadOnlyJournalStore.truncate, ReadOnlyJournalStore.discard  # type: ignore[assignment]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@dataclass
class Bench:
    """`blocked`: the second step of the plan fails. `small`: the host has too little memory."""

    host: FakeHost
    logs: Path
    capsys: pytest.CaptureFixture[str]
    patch: pytest.MonkeyPatch
    store: MemoryJournalStore = field(default_factory=MemoryJournalStore)
    blocked: bool = False
    small: bool = False
    manager: Any = None
    out: str = ""
    err: str = ""

    def nqr(self, *words: str, answer: str | None = None) -> int:
        """Return the exit code. `answer`: input on a terminal; there is none without it."""
        self.host.mutations.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(session, "_log", None)  # gone again afterwards
            patch.setattr(session, "at_terminal", lambda: answer is not None)
            patch.setenv("TERM", "dumb")  # the guide's screens have tests of their own
            patch.setattr(sys, "stdin", Terminal(f"{answer}\n") if answer is not None else io.StringIO())
            code = run(list(words))
        self.out, self.err = self.capsys.readouterr()
        return code

    def has(self, path: str) -> bool:
        return self.host.exists(path)

    def plan(self, context: Any, only: str | None = None) -> Plan:
        kept = (Directory(DATA, retain=Retain.data), Directory(DATABASE, retain=Retain.database),
                Directory(PACKAGES, retain=Retain.packages))  # fmt: skip
        blocked = (File("/nowhere/file", "x\n"),) if self.blocked else ()
        return Plan((PhasePlan("config", "Config", (File(FILE, f"{context.settings.mode.value}\n"), *kept, *blocked)),))

    def context(self, site: Site, request: Any, *_: object, looking: bool = False) -> Any:
        made = context_of(gather_again(request), fit())
        return replace(made, secrets=secret_store.load(self.host) or made.secrets)

    def facts(self, host: Any, settings: Any) -> Any:
        return fit(memory=Memory(512, 400)) if self.small else fit()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Bench]:
    made = Bench(FakeHost.debian12(), tmp_path / "log", capsys, monkeypatch)
    made.host.on("dpkg-query", prefix=True, answer="")
    made.host.put_directory(paths.CACHE_DIR)

    def opened(kind: type[Site], store: type[MemoryJournalStore] | None) -> Any:
        keeper = store(made.store.data) if store else made.store
        return kind(made.host, Journal(keeper, made.host.now), Originals(made.host, paths.ORIGINALS_DIR))

    installing, looking, removing, rotating = (
        importlib.import_module(f"nqrust.installer.operations.{name}") for name in ("installing", "looking", "remove", "rotating")
    )
    for module in (gate, looking, removing):
        monkeypatch.setattr(module, "open_site", lambda events: opened(Site, Unwritable))
    monkeypatch.setattr(gate, "open_to_change", lambda events: opened(ChangingSite, None))
    monkeypatch.setattr(gate, "exclusive", lambda *_: contextlib.nullcontext(contextlib.nullcontext))
    for module in (installing, looking, rotating):
        monkeypatch.setattr(module, "facts_for", made.facts)
    for module in (looking, rotating):
        monkeypatch.setattr(module, "make_context", made.context)
    monkeypatch.setattr(planner, "plan", made.plan)
    monkeypatch.setattr(proving, "prove", lambda *_, **__: ())
    monkeypatch.setattr(proof_of_clean, "remember", lambda host: None)
    monkeypatch.setattr(removing, "_preload", lambda: None)
    monkeypatch.setattr(app, "command", lambda: TREE)
    monkeypatch.setattr(gathering, "recorded", dict)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "execv", lambda *_: None)
    monkeypatch.setattr(logfile.LogFileReporter.__init__, "__defaults__", (str(made.logs), 10))
    yield made


def gather_again(request: Any) -> Any:
    found = gather(flags={}, environ={})
    return type(found)(request.settings, found.given, request.explicit)
