"""Proxies, mirrors and certificates: kept from the first run for the later ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_rendered_files import RELEASE, SECRETS

from nqrust.cli import bundles, images, releases
from nqrust.cli.__main__ import run
from nqrust.cli.install import gathering
from nqrust.cli.install.gathering import recall
from nqrust.contract import paths
from nqrust.host.environment import parse, reach, render
from nqrust.host.secret import Secret
from nqrust.installer.context import Context, ReleaseFiles
from nqrust.installer.engine.errors import UsageError
from nqrust.installer.phases import deps
from nqrust.installer.release.interpreter import Interpreter
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.file.file import File

GIVEN = {
    "https_proxy": "http://ann:it's $ecret@proxy:3128",
    "NO_PROXY": "localhost,10.0.0.0/8",
    "SSL_CERT_FILE": "/etc/ssl/own.pem",
    "PIP_INDEX_URL": "https://index.example/simple",
    "UV_PYTHON_INSTALL_MIRROR": "https://mirror.example/python",
}


def test_only_ways_to_reach_others_are_remembered() -> None:
    others = {"PATH": "/bin", "PIP_TARGET": "/x", "HOME": "/root", "http_proxy": ""}
    assert reach({**GIVEN, **others}) == GIVEN
    assert parse(render(GIVEN) + "broken='\n# no\n") == GIVEN


def test_file_is_written_before_packages_and_only_root_reads_it() -> None:
    python = Interpreter("/usr/bin/python3", "3.11.2", "/usr/bin/python3")
    for given in (GIVEN, {}):
        steps = deps.plan(Context(Settings(), fit(), SECRETS, ReleaseFiles(RELEASE, "/x"), python, reach=given)).steps
        found = [step for step in steps if isinstance(step, File) and step.path == paths.REACH_ENV]
        assert len(found) == bool(given)
    steps = deps.plan(Context(Settings(), fit(), SECRETS, ReleaseFiles(RELEASE, "/x"), python, reach=GIVEN)).steps
    (file,) = [step for step in steps if isinstance(step, File) and step.path == paths.REACH_ENV]
    assert file.mode == 0o600 and isinstance(file.content, Secret) and "$ecret" not in repr(file)
    assert [step.kind for step in steps].index("packages") > list(steps).index(file)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "reach.env"
    file.write_text(render(GIVEN))
    file.chmod(0o600)
    monkeypatch.setattr(paths, "REACH_ENV", str(file))
    for name in (*GIVEN, "HTTPS_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "x")  # so that the end of the test takes back what is set here
        monkeypatch.delenv(name)
    return file


def test_later_run_has_the_variables(kept: Path) -> None:
    recall()
    assert reach(os.environ).items() >= GIVEN.items()


@pytest.mark.parametrize("given", ["", "http://other:8080"])
def test_variable_of_this_run_counts(kept: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", given)
    recall()
    assert "https_proxy" not in os.environ and os.environ["HTTPS_PROXY"] == given
    assert os.environ["SSL_CERT_FILE"] == GIVEN["SSL_CERT_FILE"]


def test_file_that_others_can_read_counts_as_none(kept: Path) -> None:
    kept.chmod(0o644)
    recall()
    assert not GIVEN.keys() & os.environ.keys()


@pytest.mark.parametrize(
    ("words", "downloads"),
    [
        (("bundle", "build", "--source", "/src/nqr"), "nqrust.installer.operations.bundling.build_bundle"),
        (("release", "build", "--source", "/src/tree", "--to", "/srv/out"), "nqrust.installer.release.source_tree.build.build"),
        (("image", "build", "tiny"), "nqrust.image.tiny.build"),
    ],
)
def test_builds_have_the_variables(kept: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], downloads: str) -> None:
    seen: dict[str, str] = {}

    def begun(*_: object, **__: object) -> None:
        seen.update(reach(os.environ))
        raise UsageError("NQR-USE-018", "Enough was seen.", "Nothing to do.")

    monkeypatch.setattr(downloads, begun)
    for module in (bundles, images, releases):
        monkeypatch.setattr(module, "require_root", lambda command: None)
    monkeypatch.setattr(gathering, "recorded", dict)
    assert run(list(words)) == 2
    assert seen.items() >= GIVEN.items()
