"""The bundled release: its version follows its sources, and building it leaves nothing half done."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests.places import HELPER, ROOT

from nqrust.host.local import LocalHost
from nqrust.host.port import Command, Completed
from nqrust.installer.engine.errors import NqrError, ReleaseError
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.step import Needed, Satisfied
from nqrust.installer.release import bundled
from nqrust.installer.release.build_step import BuildRelease
from nqrust.installer.release.keep_step import KeepRelease
from nqrust.installer.release.sources import kept_release, open_source
from nqrust.installer.settings.model import Settings


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("a clone") / "nqrust microvm"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    for name in ("requirements", "guest-agent", "src"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "target"))
    return copy


@pytest.fixture(scope="module")
def built(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[BuildRelease, Path]:
    if not (shutil.which("rustc") or shutil.which("cargo")):
        pytest.skip("no Rust compiler on this machine")
    host, cache = LocalHost(), tmp_path_factory.mktemp("cache")
    version = bundled.describe_checkout(host, str(checkout)).version
    step = BuildRelease(version, f"{cache}/releases/{version}", str(checkout), sys.executable, str(cache))
    assert isinstance(step.inspect(host), Needed)
    before = sorted(str(p) for p in checkout.rglob("*"))
    step.apply(host)
    step.verify(host)
    assert sorted(str(p) for p in checkout.rglob("*")) == before, "a build writes nothing into the checkout"
    return step, cache


def test_bundled_version_changes_with_the_sources(checkout: Path) -> None:
    host = LocalHost()
    first = bundled.describe_checkout(host, str(checkout)).version
    assert first.startswith("0.") and "+" in first
    extra = checkout / "src/nqrust/extra.py"
    extra.write_text("x = 1\n")
    try:
        assert bundled.describe_checkout(host, str(checkout)).version != first
    finally:
        extra.unlink()
    (checkout / "src/nqrust/__pycache__").mkdir(exist_ok=True)
    (checkout / "src/nqrust/__pycache__/x.pyc").write_bytes(b"")
    assert bundled.describe_checkout(host, str(checkout)).version == first


def test_build_refuses_a_folder_that_is_no_checkout(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError) as failure:
        bundled.describe_checkout(LocalHost(), str(tmp_path))
    assert failure.value.code == "NQR-REL-001"


@pytest.mark.parametrize("text", ["", '[tool.x]\nversion = "1"\n', '[project]\nname = "x"\n[tool]\nversion = "2"\n'])
def test_build_refuses_a_project_without_a_version(text: str) -> None:
    with pytest.raises(ReleaseError):
        bundled.project_version(text)


def test_bundled_release_contains_every_listed_artifact(built: tuple[BuildRelease, Path]) -> None:
    step, _ = built
    host = LocalHost()
    release = bundled.read_release(host, step.directory)
    assert release is not None and release.version == step.version
    for artifact in release.artifacts:
        assert host.sha256(f"{step.directory}/{artifact.name}") == artifact.sha256
    wheel = next(a.name for a in release.artifacts if a.name.endswith(".whl"))
    names = zipfile.ZipFile(f"{step.directory}/{wheel}").namelist()
    assert "nqrust/installer/release/helper/nqrust-helper" in names
    said = subprocess.run([f"{step.directory}/guest-agent", "--version"], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("guest-agent ")


def test_the_same_sources_are_not_built_twice(built: tuple[BuildRelease, Path], checkout: Path) -> None:
    _, cache = built
    host = LocalHost()
    opened = open_source(host, Settings(), str(checkout), str(cache), NullReporter())
    again = BuildRelease(opened.release.version, opened.directory, str(checkout), sys.executable, str(cache))
    assert isinstance(again.inspect(host), Satisfied)
    assert opened.release.artifacts


def test_damaged_bundled_artifact_is_detected(built: tuple[BuildRelease, Path], tmp_path: Path) -> None:
    step, _ = built
    copy = tmp_path / "release"
    shutil.copytree(step.directory, copy)
    (copy / "guest-agent").write_bytes(b"half")
    other = BuildRelease(step.version, str(copy), step.checkout, step.runner)
    found = other.inspect(LocalHost())
    assert isinstance(found, Needed) and found.diff == ("~ guest-agent",)


def test_kept_release_works_without_the_checkout(built: tuple[BuildRelease, Path], tmp_path: Path) -> None:
    step, _ = built
    host = LocalHost()
    settings = Settings.model_validate({"paths": {"install_dir": str(tmp_path / "opt")}})
    kept = kept_release(settings)
    Path(kept).parent.mkdir(parents=True)
    with pytest.raises(ReleaseError) as failure:
        open_source(host, settings, "", str(tmp_path / "cache"), NullReporter())
    assert failure.value.code == "NQR-REL-017"
    keep = KeepRelease(step.version, step.directory, kept)
    assert isinstance(keep.inspect(host), Needed)
    assert [u.verb for u in keep.prepare(host).undo] == ["directory"]
    keep.apply(host)
    keep.verify(host)
    opened = open_source(host, settings, "", str(tmp_path / "cache"), NullReporter())
    assert opened.directory == kept and opened.release.version == step.version
    rerun = BuildRelease(opened.release.version, opened.directory, "", sys.executable)
    assert isinstance(rerun.inspect(host), Satisfied)


class Failing(LocalHost):
    """A host whose commands fail when their words contain `word`."""

    def __init__(self, word: str, stderr: str = "boom") -> None:
        super().__init__()
        self._word, self._stderr = word, stderr

    def run(self, cmd: Command, *, on_line: object = None) -> Completed:
        from nqrust.host.errors import CommandFailed

        if any(self._word in part for part in cmd.argv):
            raise CommandFailed(cmd.argv, 1, self._stderr)
        return super().run(cmd)


@pytest.mark.parametrize(("stderr", "code"), [("No module named hatchling", "NQR-REL-003"), ("boom", "NQR-REL-004")])
def test_a_failed_build_leaves_no_release(checkout: Path, tmp_path: Path, stderr: str, code: str) -> None:
    host = Failing("hatchling", stderr)
    version = bundled.describe_checkout(host, str(checkout)).version
    step = BuildRelease(version, f"{tmp_path}/releases/{version}", str(checkout), sys.executable, str(tmp_path))
    with pytest.raises(NqrError) as failure:
        step.apply(host)
    assert failure.value.code == code and failure.value.cure
    assert isinstance(step.inspect(host), Needed)


def test_privileged_helper_refuses_unknown_arguments(tmp_path: Path) -> None:
    helper = tmp_path / "nqrust-helper"
    helper.write_bytes(HELPER.read_bytes())
    for arguments in ((), ("rm",), ("version",), ("disk-write", "a1"), ("disk-write",)):
        done = subprocess.run(["sh", str(helper), *arguments], input="", capture_output=True, text=True, check=False)
        assert done.returncode == 2 and done.stderr.startswith("nqrust-helper: "), arguments
