"""Firecracker and its jailer: from an archive whose digest is known, never otherwise."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fakes.web import Served, serve

from nqrust.host.local import LocalHost
from nqrust.installer.engine.errors import ReleaseError, StepFailed
from nqrust.installer.engine.step import Conflict, Needed, Satisfied
from nqrust.installer.platform.firecracker.source import PUBLISHER, Source, source
from nqrust.installer.platform.firecracker.step import FirecrackerPrograms
from nqrust.installer.settings.firecracker import DIGESTS, VERSION

Pack = Callable[..., Path]
NAME = f"firecracker-v{VERSION}-x86_64.tgz"


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    """Makes an archive in the publisher's form. `says`: what its programs answer to --version."""

    def make(version: str = VERSION, says: str | None = None, members: tuple[str, ...] = ("firecracker", "jailer")) -> Path:
        path = tmp_path / f"firecracker-v{version}-x86_64.tgz"
        with tarfile.open(path, "w:gz") as tar:
            for name in members:
                program = tmp_path / name
                program.write_text(f"#!/bin/sh\necho '{name.title()} v{says or version}'\n")
                program.chmod(0o755)
                tar.add(program, f"release-v{version}-x86_64/{name}-v{version}-x86_64")
            tar.add(program, f"release-v{version}-x86_64/LICENSE")
        return path

    return make


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def step_of(tmp_path: Path, found: Source, optional: bool = False) -> FirecrackerPrograms:
    (tmp_path / "bin").mkdir(exist_ok=True)
    return FirecrackerPrograms(str(tmp_path / "bin"), found, optional, cache=str(tmp_path / "cache"))


def installed(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "bin").iterdir())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    with serve(tmp_path / "www") as served:
        yield served


def test_it_is_downloaded_checked_and_installed_with_its_jailer(tmp_path: Path, pack: Pack, server: Served) -> None:
    archive = pack()
    server.put(f"v{VERSION}/{NAME}", archive.read_bytes())
    step = step_of(tmp_path, Source(VERSION, sha256(archive), url=f"{server.url}/v{VERSION}/{NAME}"))
    assert isinstance(step.inspect(LocalHost()), Needed)
    assert "Firecracker 1.13.1 and its jailer" in step.describe()
    step.apply(LocalHost())
    step.verify(LocalHost())
    assert installed(tmp_path) == ["firecracker", "firecracker.source", "jailer"]
    assert {(tmp_path / "bin" / name).stat().st_mode & 0o777 for name in ("firecracker", "jailer")} == {0o755}
    (tmp_path / "bin" / "jailer").write_text("changed")
    assert isinstance(step.inspect(LocalHost()), Needed)


@pytest.mark.parametrize("what", ["another archive", "an HTML page", "a short file"])
def test_what_has_another_digest_is_never_installed(tmp_path: Path, pack: Pack, server: Served, what: str) -> None:
    archive = pack()
    data = archive.read_bytes()
    served = {"another archive": data + b"x", "an HTML page": b"<html>Sign in</html>", "a short file": data[:100]}[what]
    server.put(f"v{VERSION}/{NAME}", served)
    found = Source(VERSION, sha256(archive), url=f"{server.url}/v{VERSION}/{NAME}")
    with pytest.raises(ReleaseError) as failure:
        step_of(tmp_path, found).apply(LocalHost())
    assert failure.value.code == "NQR-REL-022"
    assert installed(tmp_path) == []
    step = step_of(tmp_path, found, optional=True)
    step.apply(LocalHost())
    assert installed(tmp_path) == ["firecracker.source"]
    satisfied = step.inspect(LocalHost())
    assert isinstance(satisfied, Satisfied) and "is not what the release lists" in satisfied.note


def test_where_it_cannot_be_downloaded_it_is_refused_before_anything_changes_or_left_out(tmp_path: Path) -> None:
    unreachable = Source(VERSION, "a" * 64, url=f"http://127.0.0.1:9/{NAME}")
    found = step_of(tmp_path, unreachable).inspect(LocalHost())
    assert isinstance(found, Conflict) and found.code == "NQR-REL-040"
    assert "--firecracker" in found.cure and "--vmm qemu" in found.cure
    step = step_of(tmp_path, unreachable, optional=True)
    assert isinstance(step.inspect(LocalHost()), Needed)
    step.apply(LocalHost())
    step.verify(LocalHost())
    again = step.inspect(LocalHost())
    assert isinstance(again, Satisfied) and "could not be downloaded" in again.note, "a run again changes nothing"
    another = step_of(tmp_path, replace(unreachable, sha256="b" * 64), optional=True)
    assert isinstance(another.inspect(LocalHost()), Needed), "another version is another try"
    assert isinstance(step_of(tmp_path, unreachable).inspect(LocalHost()), Conflict), "and so is --vmm firecracker"


def test_an_archive_of_the_administrator_needs_its_digest(tmp_path: Path, pack: Pack) -> None:
    archive = pack()
    good = Source("", sha256(archive), archive=str(archive))
    for wrong, says in (
        (replace(good, sha256="0" * 64), "not the one in NQR_FIRECRACKER_SHA256"),
        (Source(VERSION, DIGESTS[VERSION], archive=str(archive)), "not the published archive of Firecracker 1.13.1"),
        (replace(good, archive="/missing.tgz"), "no file /missing.tgz"),
        (replace(good, archive=str(tmp_path)), "no file"),
    ):
        found = step_of(tmp_path, wrong).inspect(LocalHost())
        assert isinstance(found, Conflict) and found.code == "NQR-REL-043" and says in found.why, found
        with pytest.raises(StepFailed):
            step_of(tmp_path, wrong).apply(LocalHost())
    assert installed(tmp_path) == []
    step = step_of(tmp_path, good)
    step.apply(LocalHost())
    archive.unlink()
    assert isinstance(step.inspect(LocalHost()), Satisfied), "what was installed needs its archive no more"
    published = source(VERSION, None, {"NQR_FIRECRACKER_MIRROR": "http://127.0.0.1:9"})
    for optional in (False, True):
        assert isinstance(step_of(tmp_path, published, optional).inspect(LocalHost()), Satisfied), "it is named for one run only"
    another = source("1.14.1", None, {"NQR_FIRECRACKER_MIRROR": "http://127.0.0.1:9"})
    assert isinstance(step_of(tmp_path, another, optional=True).inspect(LocalHost()), Needed), "another version was chosen"
    (tmp_path / "bin" / "firecracker").write_text("changed")
    assert isinstance(step_of(tmp_path, published).inspect(LocalHost()), Conflict), "there is nothing to repair it from"


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ({"says": "1.0.0"}, "calls itself Firecracker v1.0.0"),
        ({"version": "1.2.3"}, "it holds firecracker 1.2.3"),
        ({"members": ("firecracker",)}, "does not hold firecracker and jailer"),
    ],
)
def test_the_programs_must_be_what_the_archive_is_called(tmp_path: Path, pack: Pack, made: dict[str, object], says: str) -> None:
    archive = pack(**made)
    with pytest.raises(StepFailed) as failure:
        step_of(tmp_path, Source(VERSION, sha256(archive), archive=str(archive))).apply(LocalHost())
    assert failure.value.code == "NQR-REL-044" and says in failure.value.what
    assert installed(tmp_path) == []


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.tgz"
    page.write_text("<html></html>")
    with pytest.raises(StepFailed) as failure:
        step_of(tmp_path, Source("", sha256(page), archive=str(page))).apply(LocalHost())
    assert failure.value.code == "NQR-REL-044"


def test_where_it_comes_from() -> None:
    for version, digest in DIGESTS.items():
        published = source(version, None, {})
        assert published.sha256 == digest and len(digest) == 64
        assert published.url == f"{PUBLISHER}/v{version}/firecracker-v{version}-x86_64.tgz"
    mirror = source("1.14.1", None, {"NQR_FIRECRACKER_MIRROR": "http://mirror.example/fc/"})
    assert mirror.url == "http://mirror.example/fc/v1.14.1/firecracker-v1.14.1-x86_64.tgz"
    assert mirror.sha256 == DIGESTS["1.14.1"], "a mirror is trusted no more than the publisher's page"
    own = {"NQR_FIRECRACKER_ARCHIVE": "/tmp/f.tgz", "NQR_FIRECRACKER_SHA256": "AB" * 32}
    assert source(VERSION, None, own) == Source("", "ab" * 32, archive="/tmp/f.tgz")
    assert source(VERSION, "/tmp/g.tgz", {}) == Source(VERSION, DIGESTS[VERSION], archive="/tmp/g.tgz", chosen=VERSION)


@pytest.mark.parametrize(
    "environment",
    [
        {"NQR_FIRECRACKER_SHA256": "a" * 64},
        {"NQR_FIRECRACKER_ARCHIVE": "f.tgz"},
        {"NQR_FIRECRACKER_ARCHIVE": "/f.tgz", "NQR_FIRECRACKER_SHA256": "abc"},
    ],
)
def test_half_of_it_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(StepFailed) as failure:
        source(VERSION, None, environment)
    assert failure.value.code == "NQR-REL-041"
