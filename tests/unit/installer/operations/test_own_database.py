"""Whether the database is nqr's own, or one that nqr adopted: the journal says it."""

from __future__ import annotations

import pytest
from tests.fakes.host import FakeHost
from tests.fakes.journal import MemoryJournalStore
from tests.places import GOLDEN
from tests.unit.installer.effects.observing import RELEASE, SECRETS
from tests.unit.installer.phases.a_host import fit

from nqrust.installer import planner, secret_store
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.originals import Originals
from nqrust.installer.operations import site
from nqrust.installer.release.sources import Opened
from nqrust.installer.request import Request
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.postgres.database import Database


@pytest.mark.parametrize(
    ("journal", "name", "own", "first"),
    [
        (b"", "nexus", False, True),
        (None, "nexus", True, False),
        (None, "accounts", False, False),
        (None, "of_another_program", False, True),
    ],
)
def test_a_database_of_an_earlier_run_is_known_as_nqrs_own(
    journal: bytes | None, name: str, own: bool, first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = FakeHost.debian12()
    data = (GOLDEN / "journal/v1.jsonl").read_bytes() if journal is None else journal
    here = site.Site(host, Journal(MemoryJournalStore(data), host.now), Originals(host, "/originals"))
    monkeypatch.setattr(site, "open_source", lambda *_: Opened(RELEASE, "/bundle/release", "", None))
    monkeypatch.setattr(secret_store, "generate", lambda: SECRETS)
    settings = Settings.model_validate({"mode": "manager", "database": {"name": name}})
    made = site.make_context(here, Request(settings), fit(), NullReporter())
    (step,) = [step for phase in planner.plan(made).phases for step in phase.steps if isinstance(step, Database)]
    assert (step.own, step.first) == (own, first), "tables in a database that nqr never used are another program's"
