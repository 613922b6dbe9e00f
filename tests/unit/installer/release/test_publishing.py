"""scripts/publish_release.py: from a built release to a folder that nqr takes."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from tests.fakes.release_web import KEY, pem
from tests.places import ROOT

from nqrust.host.local import LocalHost
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.release.build import render
from nqrust.installer.release.bundled import COMPONENTS, DESCRIPTOR, read_release
from nqrust.installer.release.descriptor import Artifact, Release
from nqrust.installer.release.sources import open_source, source_steps
from nqrust.installer.settings.model import Settings

FILES = {"wheels/w.whl": b"wheel", "requirements/ui.txt": b"ui", "libexec/nqrust-helper": b"#!"}


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("publish_release", ROOT / "scripts" / "publish_release.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def built(tmp_path: Path) -> Path:
    folder = tmp_path / "built"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    artifacts = tuple(Artifact(name=n, size=len(c), sha256=hashlib.sha256(c).hexdigest()) for n, c in FILES.items())
    (folder / DESCRIPTOR).write_bytes(
        render(Release(form="bundled", version="0.5.0+abc", components=COMPONENTS, artifacts=artifacts))
    )
    return folder


def test_a_built_release_is_published_and_taken(script: ModuleType, built: Path, tmp_path: Path) -> None:
    target, host = tmp_path / "v0.5.0+abc", LocalHost()
    script.publish(built, target)
    listed = (target / "checksums.txt").read_bytes()
    (target / "checksums.txt.sig").write_bytes(KEY.sign(listed))
    (tmp_path / "key.pub").write_bytes(pem(KEY))
    settings = Settings.model_validate({"release": {"source": str(target), "public_key": str(tmp_path / "key.pub")}})
    opened = open_source(host, settings, "", str(tmp_path / "cache"), NullReporter())
    *_, step = source_steps(settings, "", opened, str(tmp_path / "cache"))
    step.apply(host)
    assert {name: (Path(opened.directory) / name).read_bytes() for name in FILES} == FILES
    found = read_release(host, opened.directory)
    assert found is not None and found.version == "0.5.0+abc" and opened.signed_by


def test_a_file_that_was_changed_is_not_published(script: ModuleType, built: Path, tmp_path: Path) -> None:
    (built / "wheels/w.whl").write_bytes(b"other")
    with pytest.raises(SystemExit, match=r"w\.whl"):
        script.publish(built, tmp_path / "out")
