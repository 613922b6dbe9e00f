"""A signed release from its address to the preflight of an install."""

from __future__ import annotations

import importlib

import pytest
from tests.fakes.host import FakeHost
from tests.fakes.journal import MemoryJournalStore
from tests.fakes.release_web import KEY, Web, pem, web
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_rendered_files import RELEASE

from nqrust.contract import paths
from nqrust.installer.context import ReleaseFiles
from nqrust.installer.engine.errors import PreflightRefused
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.originals import Originals
from nqrust.installer.operations import site
from nqrust.installer.operations.installing import _checked
from nqrust.installer.operations.site import Site
from nqrust.installer.release.newest import key_id, render, seen
from nqrust.installer.request import Request, RunOptions
from nqrust.installer.settings.model import Settings

__all__ = ["web"]
LATEST, KEY_FILE = "http://releases.example/latest", "/root/publisher.pub"
ID = key_id(KEY.public_key())


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    install = importlib.import_module("nqrust.installer.operations.installing")
    monkeypatch.setattr(install, "facts_for", lambda *_: fit())
    own = ReleaseFiles(RELEASE, "/x")  # nqr's, which is no part of such a release
    monkeypatch.setattr(site, "_own_files", lambda *_: own)
    made = FakeHost.debian12()
    made.on("dpkg-query", prefix=True, answer="")
    made.put(KEY_FILE, pem(KEY).decode())
    return made


def check(host: FakeHost, *, allow_downgrade: bool = False) -> list[str]:
    """Return the codes of what refuses the install. If nothing does, remember the release as the install would."""
    here = Site(host, Journal(MemoryJournalStore(), host.now), Originals(host, paths.ORIGINALS_DIR))
    release = {"source": LATEST, "public_key": KEY_FILE}
    run = RunOptions(allow_downgrade=allow_downgrade, ignore_preflight=("NQR-PRE-015",))  # the record without a journal
    request = Request(Settings.model_validate({"mode": "minimal", "release": release}), run)
    try:
        context = _checked(here, request, NullReporter())
    except PreflightRefused as refused:
        return [one.code for one in refused.findings]
    assert context.files.signed_by == ID
    remember, _ = context.files.steps
    remember.apply(host)
    return []


def test_a_replayed_latest_is_refused_once_a_newer_one_was_seen(host: FakeHost, web: Web) -> None:
    web.publish(LATEST, "0.4.0")
    assert check(host) == [] and seen(host) == {ID: "0.4.0"}
    old = dict(web.pages)
    web.publish(LATEST, "0.5.0")
    assert check(host) == [] and seen(host) == {ID: "0.5.0"}
    web.pages.clear()
    web.pages.update(old)
    assert check(host) == ["NQR-REL-034"] and seen(host) == {ID: "0.5.0"}
    assert check(host, allow_downgrade=True) == [] and seen(host) == {ID: "0.5.0"}, "the record does not go back"
    assert check(host) == ["NQR-REL-034"], "the flag is for one run"


def test_a_damaged_record_refuses_with_its_code(host: FakeHost, web: Web) -> None:
    web.publish(LATEST, "0.5.0")
    host.put(paths.NEWEST_RELEASES, render({ID: "x"}).decode())
    assert check(host) == ["NQR-REL-035"]
