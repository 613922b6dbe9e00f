"""nqr image import: the source of an image, and words that are refused before anything is fetched."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from nqrust.cli import image_import
from nqrust.cli.__main__ import main
from nqrust.image.cloud import importing
from nqrust.image.cloud.importing import Imported
from nqrust.installer.settings.sources import gather


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments that `importing.build` gets. It ends the command."""
    got: dict[str, Any] = {}

    def build(host: object, **arguments: Any) -> Imported:
        got.update(arguments)
        raise SystemExit(77)

    monkeypatch.setattr(importing, "build", build)
    monkeypatch.setattr(image_import, "require_root", lambda command: None)
    monkeypatch.setenv("NQR_MANAGER_URL", "http://manager.example:1")
    monkeypatch.setenv("NQR_TOKEN", "good")
    return got


def run(*words: str) -> int:
    try:
        return main(["image", "import", *words]) or 0
    except SystemExit as ended:
        return int(ended.code or 0)


@pytest.mark.parametrize("how", ["option", "config folder"])
def test_catalogue_of_the_host_goes_before_the_own(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    own = {"name": "own:1", "description": "Our own", "url": "http://a.example/d", "checksums": "http://a.example/s"}
    file = tmp_path / "image-catalogue.json"
    file.write_text(json.dumps({"images": [own]}))
    folder = str(tmp_path) if how == "config folder" else "/nowhere"
    settings = gather(flags={"paths.config_dir": folder}, environ={}).settings
    monkeypatch.setattr(image_import, "installed_settings", lambda: settings)
    assert run("web", "own:1", "--format", "raw", *(["--catalogue", str(file)] if how == "option" else [])) == 77
    assert (asked["description"], asked["format"]) == ("Our own", "raw")
    assert asked["target_dir"] == f"{settings.layout.image_dir}/web"
    assert asked["guest_agent"] == f"{settings.layout.bin_dir}/guest-agent"


def test_own_catalogue_without_a_file(asked: dict[str, Any]) -> None:
    assert run("web", "debian:13", "--no-agent") == 77
    assert (asked["description"], asked["guest_agent"]) == ("Debian 13 (trixie)", None)


@pytest.fixture
def strangers_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, in which somebody gave a file the name of an entry in the catalogue."""
    (tmp_path / "debian:13").write_text("a disk with a back door")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_with_a_name_of_the_catalogue_takes_its_path(asked: dict[str, Any], strangers_folder: Path) -> None:
    assert run("web", "debian:13") == 77 and asked["description"] == "Debian 13 (trixie)"
    assert run("web", "./debian:13") == 77 and asked["description"] == ""
    (strangers_folder / "disk.qcow2").write_text("a disk")
    assert run("web", "disk.qcow2") == 77 and asked["description"] == ""


def test_a_pull_of_a_name_in_the_catalogue_uses_no_file(
    asked: dict[str, Any], strangers_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(SystemExit):
        main(["image", "pull", "debian:trixie"])
    assert asked["description"] == "Debian 13 (trixie)"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("web", "debian:1"), "NQR-USE-003"),
        (("web", "http://a.example/d.qcow2"), "NQR-USE-007"),
        (("web", "http://a.example/d.qcow2", "--checksum", "abc"), "NQR-USE-003"),
        (("web", "debian:13", "--format", "iso"), "NQR-USE-003"),
        (("../web", "debian:13"), "NQR-USE-003"),
    ],
)
def test_words_that_cannot_work_are_refused(
    asked: dict[str, Any], capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: str
) -> None:
    assert run(*words) == 2
    assert code in capsys.readouterr().err and not asked
