"""Where `nqr-installer.pyz` unpacks what root runs."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.places import ROOT

_SPEC = importlib.util.spec_from_file_location("pyz_main", ROOT / "scripts/packages/pyz_main.py")
assert _SPEC is not None and _SPEC.loader is not None
pyz_main = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(pyz_main)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners need root")


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as made:
        below = Path(made, "a", "b")
        below.mkdir(parents=True)
        monkeypatch.setattr(tempfile, "tempdir", str(below))
        yield below


def of_another(folder: Path) -> None:
    os.chown(folder, 65534, 65534)


def of_another_above(folder: Path) -> None:
    os.chown(folder.parent, 65534, 65534)


def linked(folder: Path) -> None:
    """By a link of root's that leads to another user's folder."""
    (folder.parent / "c").mkdir()
    os.chown(folder.parent / "c", 65534, 65534)
    folder.rmdir()
    folder.symlink_to("c")


CASES: dict[str, Callable[[Path], None]] = {
    "another user's": of_another,
    "below another user's": of_another_above,
    "a link to another user's": linked,
    "writable for everybody": lambda folder: folder.chmod(0o777),
    "writable for a group": lambda folder: folder.chmod(0o775),
    "below one that is writable": lambda folder: folder.parent.chmod(0o777),
}


@pytest.mark.parametrize("spoil", CASES.values(), ids=CASES)
def test_root_unpacks_in_no_folder_of_others(spoil: Callable[[Path], None], folder: Path) -> None:
    spoil(folder)
    assert pyz_main.place() == "/var/tmp"


def test_root_unpacks_where_others_can_replace_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pyz_main.place() == str(folder)
    folder.chmod(0o1777)
    assert pyz_main.place() == str(folder)
    of_another(folder)
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    assert pyz_main.place() == str(folder), "another user than root has folders of its own"


def test_without_a_safe_folder_nothing_is_unpacked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.chmod(0o777)
    monkeypatch.setattr(pyz_main, "USUAL", str(folder))
    monkeypatch.setattr(pyz_main, "unpack", lambda _: pytest.fail("it unpacks"))
    assert pyz_main.main(["plan"]) == 2
    assert capsys.readouterr().err.startswith("NQR-DEP-912: ") and not list(folder.iterdir())
