"""The bundle helps its reader and contains no secret."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fakes.host import FakeHost

from nqrust.cli.failures import write_private
from nqrust.cli.support import bundle
from nqrust.cli.support.bundle import mask
from nqrust.installer.engine.errors import UsageError


@pytest.mark.parametrize(
    ("text", "kept", "gone"),
    [
        (
            "DATABASE_URL=postgresql://nexus:s3cretpw@localhost:5432/nexus",
            "nexus:********@localhost",
            "s3cretpw",
        ),
        ("UI_STORAGE_SECRET=abcdef", "UI_STORAGE_SECRET=********", "abcdef"),
        ("  password: hunter2", "  password: ********", "hunter2"),
        ('{"sha256": "00ff", "name": "cli"}', '"name": "cli"', "00ff"),
        ("AGENT_JOIN_TOKEN_FILE=/etc/x/join-token", "AGENT_JOIN_TOKEN_FILE=/etc/x/join-token", "********"),
        ("MANAGER_BIND=0.0.0.0:18080", "MANAGER_BIND=0.0.0.0:18080", "********"),
        (
            "a log line with nqr_longsecretvalue in it",
            "a log line with ******** in it",
            "nqr_longsecretvalue",
        ),
    ],
)
def test_secrets_are_masked_and_the_rest_stays(text: str, kept: str, gone: str) -> None:
    shown = mask(text, frozenset({"nqr_longsecretvalue"}))
    assert kept in shown and gone not in shown


@pytest.fixture
def one_member(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "_members", lambda host: iter([("status.json", "{}")]))


@pytest.mark.usefixtures("one_member")
@pytest.mark.parametrize("make", [os.symlink, os.link], ids=["symbolic link", "second name"])
def test_links_of_others_are_not_written_through(tmp_path: Path, make: Callable[[Path, Path], None]) -> None:
    victim, planted = tmp_path / "victim", tmp_path / "bundle.tar.gz"
    victim.write_text("precious")
    make(victim, planted)
    with pytest.raises(UsageError, match="cannot be written"):
        bundle.write(FakeHost(), str(planted))
    with pytest.raises(UsageError, match="cannot be written"):
        write_private(str(planted), b"fingerprint", mode=0o600)
    assert victim.read_text() == "precious"


@pytest.mark.usefixtures("one_member")
def test_own_bundle_is_replaced_and_private(tmp_path: Path) -> None:
    path = tmp_path / "bundle.tar.gz"
    path.write_bytes(b"x" * 1_000_000)
    path.chmod(0o644)
    bundle.write(FakeHost(), str(path))
    assert path.stat().st_mode & 0o777 == 0o600 and path.stat().st_size < 100_000


@pytest.mark.parametrize("line", ["a" * 3_000, "\n"], ids=["letters without end", "empty lines"])
def test_masking_takes_no_longer_for_lines_that_look_like_a_beginning(line: str) -> None:
    """Every letter could begin an address, and every empty line an assignment: the time grew with the square of their number."""
    text = f"{line}\n" * (200_000 // len(line))
    began = time.process_time()
    assert mask(text) == text
    assert time.process_time() - began < 2
