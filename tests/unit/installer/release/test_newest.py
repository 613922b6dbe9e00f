"""The record of the newest signed release: it only rises, and goes with an uninstall."""

from __future__ import annotations

import json

import pytest
from tests.fakes.host import FakeHost
from tests.fakes.journal import MemoryJournalStore

from nqrust.contract import paths
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.plan import PhasePlan, Plan
from nqrust.installer.engine.runner import Runner
from nqrust.installer.engine.step import Needed, Satisfied
from nqrust.installer.operations.remove import forget_state
from nqrust.installer.operations.site import ChangingSite
from nqrust.installer.release.newest import seen
from nqrust.installer.release.remember_step import RememberRelease
from nqrust.installer.verbs.file.file import File
from nqrust.installer.verbs.registry import VERBS

OURS, THEIRS = "a" * 64, "b" * 64


@pytest.fixture
def host() -> FakeHost:
    return FakeHost.debian12()


def remembered(host: FakeHost, version: str, key: str = OURS) -> dict[str, str]:
    step = RememberRelease(key, version)
    if isinstance(step.inspect(host), Needed):
        step.apply(host)
    step.verify(host)
    return seen(host)


def test_the_record_only_rises(host: FakeHost) -> None:
    assert seen(host) == {}
    for version, newest in (
        ("0.4.0", "0.4.0"),
        ("0.5.0", "0.5.0"),
        ("0.4.0", "0.5.0"),
        ("0.5.0-rc.1", "0.5.0"),
        ("0.10.0", "0.10.0"),
    ):
        assert remembered(host, version) == {OURS: newest}
    assert isinstance(RememberRelease(OURS, "0.10.0").inspect(host), Satisfied)


def test_each_key_has_its_own_versions(host: FakeHost) -> None:
    remembered(host, "0.5.0")
    assert remembered(host, "0.1.0", THEIRS) == {OURS: "0.5.0", THEIRS: "0.1.0"}


def test_only_root_may_touch_the_record(host: FakeHost) -> None:
    remembered(host, "0.5.0")
    stat = host.stat(paths.NEWEST_RELEASES)
    assert stat is not None and (stat.mode, stat.owner, stat.group) == (0o600, "root", "root")
    host.set_mode(paths.NEWEST_RELEASES, mode=0o666, owner="root", group="root")
    assert isinstance(RememberRelease(OURS, "0.4.0").inspect(host), Needed)
    assert remembered(host, "0.4.0") == {OURS: "0.5.0"}
    stat = host.stat(paths.NEWEST_RELEASES)
    assert stat is not None and stat.mode == 0o600


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"schema": 2, "newest": {}}',
        '{"schema": 1}',
        '{"schema": 1, "newest": {"k": 5}}',
        '{"schema": 1, "newest": {"k": "x"}}',
    ],
)
def test_a_damaged_record_forgets_nothing(host: FakeHost, text: str) -> None:
    host.put(paths.NEWEST_RELEASES, text)
    for read in (lambda: seen(host), lambda: RememberRelease(OURS, "0.5.0").inspect(host)):
        with pytest.raises(ReleaseError) as refused:
            read()
        assert refused.value.code == "NQR-REL-035" and paths.NEWEST_RELEASES in refused.value.what


def test_a_rollback_keeps_the_record_and_an_uninstall_removes_it(host: FakeHost) -> None:
    remembered(host, "0.4.0")
    host.put_directory("/etc/of-nqr")
    journal, originals = Journal(MemoryJournalStore(), host.now), Originals(host, paths.ORIGINALS_DIR)
    steps = (RememberRelease(OURS, "0.5.0"), File("/etc/of-nqr/file", "x\n"), File("/nowhere/file", "x\n"))
    result = Runner(VERBS, host, journal, originals, NullReporter()).run(
        Plan((PhasePlan("deps", "", steps),)), "install", "1", {}
    )
    assert result.outcome == "rolled_back" and not host.exists("/etc/of-nqr/file")
    assert json.loads(host.read_text(paths.NEWEST_RELEASES)) == {"schema": 1, "newest": {OURS: "0.5.0"}}
    forget_state(ChangingSite(host, journal, originals))
    assert not host.exists(paths.NEWEST_RELEASES) and not host.exists(paths.STATE_DIR)
