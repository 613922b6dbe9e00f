"""Older releases are refused unless the user asks for them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.phases.a_host import fit

from nqrust.contract import paths
from nqrust.installer.preflight.downgrade import in_use
from nqrust.installer.preflight.run import Situation, run
from nqrust.installer.release.newest import render
from nqrust.installer.settings.model import Settings

KEY, OTHER = "a" * 64, "b" * 64


@dataclass(frozen=True)
class Row:
    name: str
    here: str
    seen: dict[str, str]
    version: str
    codes: tuple[str, ...] = ()
    signed_by: str = KEY


ROWS = (
    Row("a first install", "", {}, "0.5.0"),
    Row("an upgrade", "0.4.0", {KEY: "0.4.0"}, "0.5.0"),
    Row("the same again", "0.5.0", {KEY: "0.5.0"}, "0.5.0"),
    Row("another build of the same version", "0.3.0+aaa", {}, "0.3.0+bbb", signed_by=""),
    Row("an older source tree", "0.3.0+aaa", {}, "0.2.0+bbb", ("NQR-REL-033",), signed_by=""),
    Row("an older unsigned release", "0.5.0", {}, "0.4.0", ("NQR-REL-033",), signed_by=""),
    Row("a pre-release of what is in use", "0.5.0", {}, "0.5.0-rc.1", ("NQR-REL-033",), signed_by=""),
    Row("a version without an order", "0.5.0", {}, "nightly", ("NQR-REL-033",), signed_by=""),
    Row("a replayed latest after an upgrade", "0.5.0", {KEY: "0.5.0"}, "0.4.0", ("NQR-REL-033", "NQR-REL-034")),
    Row("a replayed latest on a new host", "", {KEY: "0.5.0"}, "0.4.0", ("NQR-REL-034",)),
    Row("a replayed latest after a failed upgrade", "0.3.0", {KEY: "0.5.0"}, "0.4.0", ("NQR-REL-034",)),
    Row("the release in use, after a failed upgrade", "0.4.0", {KEY: "0.5.0"}, "0.4.0"),
    Row("the versions of another publisher", "0.1.0", {OTHER: "0.5.0"}, "0.2.0"),
)


def host_of(row: Row) -> FakeHost:
    host = FakeHost.debian12()
    if row.here:
        host.put_directory(paths.INSTALL_DIR)
        host.symlink(f"releases/{row.here}", f"{paths.INSTALL_DIR}/current")
    if row.seen:
        host.put(paths.NEWEST_RELEASES, render(row.seen).decode())
    return host


def found(row: Row, *ignored: str, allowed: bool = False) -> list[tuple[str, str]]:
    situation = Situation(known=True, version=row.version, signed_by=row.signed_by, allow_downgrade=allowed)
    return [(one.severity.value, one.code) for one in run(Settings(), fit(), host_of(row), situation, ignored)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_an_older_release_is_refused_unless_asked_for(row: Row) -> None:
    assert in_use(Settings(), host_of(row)) == row.here
    assert found(row) == [("error", code) for code in row.codes]
    assert found(row, allowed=True) == [("warning", code) for code in row.codes]
    assert found(row, "NQR-REL-033", "NQR-REL-034") == [("error", code) for code in row.codes], "it has a flag of its own"


def test_both_versions_and_the_flag_are_named() -> None:
    (first, second) = run(Settings(), fit(), host_of(ROWS[8]), Situation(known=True, version="0.4.0", signed_by=KEY))
    assert "0.4.0" in first.what and "0.5.0" in first.what and "--allow-downgrade" in first.cure == second.cure


def test_a_damaged_record_refuses_whatever_was_asked_for() -> None:
    host = host_of(Row("", "0.5.0", {}, ""))
    host.put(paths.NEWEST_RELEASES, "{")
    for allowed in (False, True):
        situation = Situation(known=True, version="0.6.0", signed_by=KEY, allow_downgrade=allowed)
        assert [one.code for one in run(Settings(), fit(), host, situation)] == ["NQR-REL-035"]
    assert run(Settings(), fit(), host, Situation(known=True, version="0.6.0")) == [], "an unsigned release has no record"
