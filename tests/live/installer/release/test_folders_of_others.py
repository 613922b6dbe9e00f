"""Root builds bundles and releases for a folder of another user, who cannot lead it elsewhere meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nqrust.host.errors import HostError
from nqrust.host.local import LocalHost
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.engine.progress import silent
from nqrust.installer.operations.release_building import build_release
from nqrust.installer.release import upstream
from nqrust.installer.release.bundle import build as bundle_build
from nqrust.installer.release.bundle.build import Ingredients
from nqrust.installer.release.source_tree import build as tree_build
from nqrust.installer.release.source_tree.workplace import Workplace
from nqrust.installer.verbs.packages.apt.collecting import Collector

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has more rights than the folder's user")

NOBODY = 65534
PARTS = Ingredients("/src", "debian-12", (), Collector())


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of another user, a precious one of root, and root's cache."""
    for name in ("theirs", "precious", "cache", "var"):
        (tmp_path / name).mkdir()
    (tmp_path / "precious/release").mkdir()
    os.chown(tmp_path / "theirs", NOBODY, NOBODY)
    monkeypatch.setattr(bundle_build, "CACHE_DIR", f"{tmp_path}/cache", raising=False)
    return tmp_path / "theirs"


def swap(theirs: Path) -> None:
    """What that user does to all that root makes in the folder: rename it, and put a link in its place."""
    for path in list(theirs.iterdir()):
        path.rename(theirs / f"away{path.name}")
        path.symlink_to(theirs.parent / "precious")
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def untouched(theirs: Path) -> bool:
    precious = theirs.parent / "precious"
    return sorted(str(path.relative_to(precious)) for path in precious.rglob("*")) == ["release"]


def collecting(theirs: Path) -> Callable[..., str]:
    def collect(host: LocalHost, parts: Ingredients, work: str, runner: str, progress: Any) -> str:
        host.mkdir(f"{work}/release")
        swap(theirs)
        host.write_file(f"{work}/release/program", b"root runs this")
        return "1.0"

    return collect


@pytest.mark.parametrize("output", ["theirs", "theirs/mine.tar.zst"])
def test_bundle_in_a_folder_of_another_user(theirs: Path, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    monkeypatch.setattr(bundle_build, "_collect", collecting(theirs))
    path = Path(bundle_build.write(LocalHost(), PARTS, str(theirs.parent / output), "", lambda text, fraction: None))
    assert untouched(theirs) and path.parent == theirs and os.listdir(theirs) == [path.name]
    assert (path.is_symlink(), path.owner(), path.stat().st_mode & 0o777) == (False, "root", 0o644)
    assert not list((theirs.parent / "cache").iterdir())


def test_bundle_in_a_folder_below_one_of_another_user(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is root's, and that user puts a link in its place."""
    (theirs / "out").mkdir()
    monkeypatch.setattr(bundle_build, "_collect", collecting(theirs))
    with pytest.raises(ReleaseError, match="a link that another user than root may have put there"):
        bundle_build.write(LocalHost(), PARTS, f"{theirs}/out/mine.tar.zst", "", lambda text, fraction: None)
    assert untouched(theirs) and not list((theirs.parent / "cache").iterdir())


def test_bundle_in_a_folder_of_root_is_built_beside_it(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache may be on a smaller disk."""
    worked: list[str] = []

    def collect(host: LocalHost, parts: Ingredients, work: str, runner: str, progress: Any) -> str:
        worked.append(work)
        return "1.0"

    monkeypatch.setattr(bundle_build, "_collect", collect)
    folder = theirs.parent / "var"
    bundle_build.write(LocalHost(), PARTS, f"{folder}/mine.tar.zst", "", lambda text, fraction: None)
    assert worked == [f"{folder}/.nqr-bundle.building"] and os.listdir(folder) == ["mine.tar.zst"]


@pytest.fixture
def building(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """A build of a release, whose compiler leaves its results at once."""
    results = theirs.parent / "results"
    (results / "out").mkdir(parents=True)
    names = [name for name in upstream.ASSETS if name != "ui"]
    for name in names:
        (results / "out" / name).write_bytes(b"\x7fELF")

    def opened(host: LocalHost, scratch: str, tree: str, progress: Any) -> Workplace:
        host.mkdir(scratch)
        place = Workplace(host, scratch, silent, 61000, lines=["said"])
        monkeypatch.setattr(Workplace, "run", lambda self, *argv: os.rename(results / "out", f"{scratch}/out"))
        return place

    real = tree_build._collect

    def collect(host: LocalHost, *rest: Any) -> None:
        write_file = host.write_file

        def swapping(path: str, data: Any, **options: Any) -> None:
            swap(theirs)
            write_file(path, data, **options)

        monkeypatch.setattr(host, "write_file", swapping)
        real(host, *rest)
        monkeypatch.setattr(host, "write_file", write_file)

    for name, value in {
        "form_of": lambda *_: tree_build.UPSTREAM, "open_workplace": opened, "_collect": collect,
        "close_workplace": lambda place: place.host.remove_tree(place.folder),
    }.items():  # fmt: skip
        monkeypatch.setattr(tree_build, name, value)
    monkeypatch.setattr(tree_build.cargo_workspace, "read", lambda *_: SimpleNamespace(rust=None, ui=False, version="1.0"))
    monkeypatch.setattr(tree_build.rust, "toolchain", lambda *_: "/usr")
    monkeypatch.setattr(tree_build.rust, "cargo_of", lambda *_: None)
    monkeypatch.setattr(tree_build.rust, "build", lambda *_: {name: f"out/{name}" for name in names})
    monkeypatch.setattr(tree_build.queries, "asking", lambda *_: ())
    monkeypatch.setattr(tree_build.queries, "need_server", lambda *_: None)
    monkeypatch.setattr(LocalHost, "kill_all_of", lambda *_: None)
    scratch = f"{theirs.parent}/var/scratch"
    return lambda to: tree_build.build(LocalHost(), tree="/tree", to=to, scratch=scratch, with_ui=False, progress=silent)


def test_release_in_a_folder_of_another_user(theirs: Path, building: Callable[[str], str]) -> None:
    assert building(f"{theirs}/made") == "1.0"
    assert untouched(theirs) and sorted(os.listdir(theirs)) == ["made", "made.log"]
    assert "release-manifest.json" in os.listdir(theirs / "made") and (theirs / "made.log").read_text() == "said\n"


def test_release_goes_through_no_link_of_another_user(theirs: Path, building: Callable[[str], str]) -> None:
    (theirs / "out").mkdir()
    with pytest.raises(HostError, match="a link that another user than root may have put there"):
        building(f"{theirs}/out/made")
    assert untouched(theirs)


def test_release_in_a_folder_of_root(theirs: Path, building: Callable[[str], str]) -> None:
    assert building(f"{theirs.parent}/var/made") == "1.0"
    assert sorted(os.listdir(theirs.parent / "var")) == ["made", "made.log"]


def test_scratch_folder_below_one_of_another_user_is_refused(theirs: Path) -> None:
    with pytest.raises(ReleaseError) as refused:
        build_release("/tree", f"{theirs}/made", f"{theirs}/nqr-build-x", with_ui=False, checkout="", progress=silent)
    assert refused.value.code == "NQR-REL-098" and not list(theirs.iterdir())
