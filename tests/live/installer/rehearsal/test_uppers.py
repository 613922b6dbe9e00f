"""The upper layers of an overlay show the written paths."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nqrust.installer.rehearsal.uppers import Layer, Written, mark, written


@pytest.fixture
def layer(tmp_path: Path) -> Layer:
    for name in ("lower", "upper"):
        (tmp_path / name / "etc").mkdir(parents=True)
    (tmp_path / "lower/etc/hosts").write_text("localhost\n")
    (tmp_path / "lower/etc/motd").write_text("hello\n")
    return Layer("/", str(tmp_path / "lower"), str(tmp_path / "upper"))


def upper(layer: Layer, path: str, text: str) -> Path:
    file = Path(layer.upper + path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_uppers_tell_created_changed_and_untouched_paths_apart(layer: Layer) -> None:
    upper(layer, "/etc/hosts", "localhost more\n")
    upper(layer, "/etc/motd", "hello\n")  # opened for writing, the same in the end
    upper(layer, "/opt/new/file", "12345")
    assert written(layer, {}) == [
        Written("~", "/etc/hosts", 15), Written("+", "/opt"), Written("+", "/opt/new"), Written("+", "/opt/new/file", 5),
    ]  # fmt: skip


def test_mode_change_counts_as_a_change(layer: Layer) -> None:
    upper(layer, "/etc/motd", "hello\n").chmod(0o600)
    assert written(layer, {}) == [Written("~", "/etc/motd", 6)]


def test_paths_written_before_the_mark_do_not_count(layer: Layer) -> None:
    upper(layer, "/var/log/journal", "boot")
    upper(layer, "/var/log/other", "boot")
    since = mark(layer)
    assert written(layer, since) == []
    upper(layer, "/var/log/other", "boot and more")
    Path(layer.upper, "var/log/journal").unlink()
    assert written(layer, since) == [Written("-", "/var/log/journal"), Written("~", "/var/log/other", 13)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device nodes and trusted attributes")
def test_removed_and_recreated_path_counts_as_changed(layer: Layer, tmp_path: Path) -> None:
    os.mknod(layer.upper + "/etc/hosts", 0o020000, os.makedev(0, 0))
    assert written(layer, {}) == [Written("-", "/etc/hosts")]
    Path(layer.upper, "etc/hosts").unlink()
    try:
        os.setxattr(layer.upper + "/etc", "trusted.overlay.opaque", b"y")
    except OSError as error:
        pytest.skip(f"this file system keeps no such attribute: {error}")
    upper(layer, "/etc/hosts", "new\n")
    assert written(layer, {}) == [Written("~", "/etc/hosts", 4), Written("-", "/etc/motd")]
