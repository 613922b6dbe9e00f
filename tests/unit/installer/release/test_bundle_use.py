"""An install from a bundle takes everything from it: packages, Python packages, the guest kernel, Firecracker."""

from __future__ import annotations

import hashlib
import io
import json
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.host import FakeHost
from tests.fakes.journal import MemoryJournalStore
from tests.places import ROOT
from tests.unit.installer.effects.observing import RELEASE, SECRETS
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.release.test_bundle import Draft, block, entry, padded

from nqrust.image import debs
from nqrust.image.errors import ImageError
from nqrust.installer import planner, secret_store
from nqrust.installer.context import Context
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.step import Needed, Step
from nqrust.installer.operations import site
from nqrust.installer.platform.firecracker.step import FirecrackerPrograms
from nqrust.installer.platform.image import BuiltImage
from nqrust.installer.platform.venv import PythonEnvironment
from nqrust.installer.release.build import render
from nqrust.installer.release.bundle.opening import Bundle
from nqrust.installer.release.bundle.unpack_step import UnpackBundle
from nqrust.installer.release.sources import Opened
from nqrust.installer.release.wheelhouse import Wheelhouse
from nqrust.installer.request import Environment, Request
from nqrust.installer.settings.model import Settings
from nqrust.installer.settings.sources import gather
from nqrust.installer.verbs.packages.apt.collecting import INDEX, Collector
from nqrust.installer.verbs.packages.apt.installing import Apt
from nqrust.installer.verbs.packages.step import PackageIndex, Packages

FILE, FOLDER = "/media/b.tar.zst", "/cache/bundles/0123"
BUNDLE = Bundle(FOLDER, RELEASE, file=FILE, digest="0" * 64)


def context(monkeypatch: pytest.MonkeyPatch, bundle: Bundle = BUNDLE, **settings: Any) -> Context:
    host = FakeHost.debian12()
    here = site.Site(host, Journal(MemoryJournalStore(), host.now), Originals(host, "/originals"))
    asked = Settings.model_validate({"release": {"source": FILE}, **settings})
    opened = Opened(RELEASE, f"{FOLDER}/release", "", bundle)
    monkeypatch.setattr(site, "open_source", lambda *_: opened)
    monkeypatch.setattr(secret_store, "generate", lambda: SECRETS)
    return site.make_context(here, Request(asked), fit(), NullReporter())


def steps(made: Context) -> list[Step]:
    return [step for phase in planner.plan(made).phases for step in phase.steps]


def one(kind: type[Any], made: Context) -> Any:
    (found,) = [step for step in steps(made) if isinstance(step, kind)]
    return found


def test_each_step_takes_its_files_from_the_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    made = context(monkeypatch)
    kinds = [type(step) for step in steps(made)]
    assert kinds.index(UnpackBundle) < kinds.index(PackageIndex) < kinds.index(Packages)
    assert one(Packages, made).manager == one(PackageIndex, made).manager == Apt(folder=f"{FOLDER}/packages")
    assert not [step for step in steps(made) if isinstance(step, Wheelhouse)], "a download of packages would ask the network"
    environments = [step for step in steps(made) if isinstance(step, PythonEnvironment)]
    assert [step.find_links[0] for step in environments] == [f"{FOLDER}/wheels"] * 2
    assert [step.compiled for step in environments] == [f"{FOLDER}/compiled/modules.tar"] * 2
    assert one(BuiltImage, made).packages == f"{FOLDER}/kernel"
    assert not [step for step in steps(made) if isinstance(step, FirecrackerPrograms)], "a download of it would ask the network"


CONTAINERS: dict[str, Any] = {"components": {"container_runtime": True}}


def test_images_of_the_bundle_are_copied_and_need_no_builder(monkeypatch: pytest.MonkeyPatch) -> None:
    made = context(monkeypatch, replace(BUNDLE, images=("container-runtime", "tiny")), **CONTAINERS)
    found = [step for step in steps(made) if isinstance(step, BuiltImage)]
    assert {step.recipe: step.ready for step in found} == {
        name: f"{FOLDER}/images/{name}" for name in ("tiny", "container-runtime")
    }
    assert "mmdebstrap" not in one(Packages, made).names


def test_container_runtime_that_the_bundle_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ReleaseError) as refused:
        context(monkeypatch, replace(BUNDLE, images=("tiny",)), **CONTAINERS)
    assert refused.value.code == "NQR-REL-052" and "--with container-runtime" in refused.value.cure


def test_firecracker_of_the_bundle_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = context(monkeypatch, replace(BUNDLE, firecracker="1" * 64))
    step = one(FirecrackerPrograms, made)
    assert (step.source.archive, step.source.sha256) == (f"{FOLDER}/firecracker/firecracker.tgz", "1" * 64)
    host = FakeHost.debian12()
    assert isinstance(step.inspect(host), Needed), "an earlier step of the same run unpacks it"
    host.put(step.source.archive, "another archive")
    assert not isinstance(step.inspect(host), Needed)


def test_firecracker_that_the_bundle_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ReleaseError) as refused:
        context(monkeypatch, vmm="firecracker")
    assert refused.value.code == "NQR-REL-066"


def test_look_at_an_installation_needs_no_bundle() -> None:
    host = FakeHost.debian12()
    here = site.Site(host, Journal(MemoryJournalStore(), host.now), Originals(host, "/originals"))
    asked = Request(Settings.model_validate({"release": {"source": FILE}}), environment=Environment(checkout="/src"))
    kept = f"{asked.settings.layout.installer_dir}/bundle"
    host.put(f"{kept}/release.json", render(RELEASE.model_copy(update={"artifacts": ()})).decode())
    host.symlink(f"releases/{RELEASE.version}", asked.settings.layout.current_link)
    found = site.make_context(here, asked, fit(), NullReporter(), looking=True)
    assert (found.release.version, found.settings.release.source) == (RELEASE.version, FILE)
    with pytest.raises(ReleaseError) as missing:
        site.make_context(here, asked, fit(), NullReporter())
    assert missing.value.code == "NQR-REL-019"


def test_apt_has_no_other_source_than_the_bundle() -> None:
    apt, host = Apt().of_folder("/b/packages"), FakeHost.debian12()
    asked: list[tuple[str, ...]] = []
    for program in ("apt-get", "apt-cache"):
        host.on(program, prefix=True, answer=lambda host, cmd: asked.append(cmd.argv) or "screen\n")
    assert apt.index_missing(host, ["screen"]) == "there is no package index yet", "those of the host do not count"
    host.put(f"/b/packages/{INDEX}/_b_packages_._Packages", "Package: screen\n")
    assert apt.index_missing(host, ["screen"]) is None
    apt.would_bring(host, ["screen"])
    host.on("dpkg", prefix=True, answer="")
    host.on("dpkg-query", prefix=True, answer="")
    commands = [*asked, apt.refresh().argv, apt.install(["screen"]).argv, apt.repair(host)[1].argv]
    assert len(commands) == 4
    for argv in commands:
        options = {argv[at + 1] for at, word in enumerate(argv) if word == "-o"}
        assert {
            "Dir::Etc::sourcelist=/b/packages/.apt/sources.list",
            "Dir::Etc::sourceparts=/dev/null",
            f"Dir::State::lists=/b/packages/{INDEX}/",
        } <= options, argv
    assert "Dir::Etc::sourcelist" not in " ".join(Apt().install(["screen"]).argv)


def test_prepared_folder_is_a_source_for_apt() -> None:
    host = FakeHost.debian12()
    host.mkdir("/new")
    Collector().prepare(host, "/new", "/b/packages")
    assert host.read_text("/new/.apt/sources.list") == "deb [trusted=yes] file:/b/packages ./\n"


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_packages_of_a_bundle_come_from_a_mirror_with_certificates_of_its_own(variable: str) -> None:
    host = FakeHost.debian12()
    asked: list[tuple[str, ...]] = []
    host.on("apt-get", prefix=True, answer=lambda host, cmd: asked.append(cmd.argv) or "")
    Collector().collect(host, ["screen"], "/plain")
    host.variables[variable] = "/etc/own.pem"
    Collector().collect(host, ["screen"], "/own")
    plain, own = asked
    assert "CAInfo" not in " ".join(plain)
    assert own[own.index("Acquire::https::CAInfo=/etc/own.pem") - 1] == "-o"


def test_complete_folder_of_packages_asks_no_apt() -> None:
    host = FakeHost.debian12()
    host.put(f"/k/{debs.ALONE}", "")
    content = "a package"
    kernel = {
        "name": "linux-image-6.1",
        "version": "6.1",
        "size": len(content),
        "sha256": hashlib.sha256(content.encode()).hexdigest(),
    }
    host.put("/k/packages.json", json.dumps({"linux-image-6.1": kernel, "lost": {**kernel, "name": "lost"}}))
    host.put("/k/linux-image-6.1_6.1.deb", content)
    cache = debs.DebCache(host, "/k")
    found = cache.show("linux-image-6.1", "lost", "unknown")
    assert set(found) == {"linux-image-6.1", "lost"}
    assert cache.fetch(found["linux-image-6.1"]) == "/k/linux-image-6.1_6.1.deb"
    with pytest.raises(ImageError) as refused:
        cache.fetch(found["lost"])
    assert refused.value.code == "NQR-IMG-002" and host.commands == []


def test_bundle_in_the_current_folder_gets_an_absolute_path() -> None:
    found = gather(flags={"release.source": "b.tar.zst"}, environ={}, cwd="/media/stick")
    assert found.settings.release.source == "/media/stick/b.tar.zst"
    found = gather(flags={}, environ={"NQR_RELEASE": "../b.tar.zst"}, cwd="/media/stick")
    assert found.settings.release.source == "/media/b.tar.zst"
    address = "https://releases.example/b.tar.zst"
    found = gather(flags={"release.source": address}, environ={}, cwd="/media/stick")
    assert found.settings.release.source == address


def taken(tmp_path: Path, tar: bytes, locked: bytes) -> tuple[int, list[str]]:
    """What the bootstrap takes out of a bundle: exit code and names of the wheels."""
    lock, folder = tmp_path / "lock.txt", tmp_path / "wheels"
    folder.mkdir()
    lock.write_text(f"six==1.0 \\\n    --hash=sha256:{hashlib.sha256(locked).hexdigest()}\n")
    main = runpy.run_path(str(ROOT / "scripts/install/open_bundle.py"))["main"]
    try:
        code = main(str(folder), [str(lock)], io.BytesIO(tar))
    except ValueError:
        code = 1
    return code, sorted(path.name for path in folder.iterdir())


def test_bootstrap_takes_only_wheels_that_its_locks_name(tmp_path: Path) -> None:
    assert taken(tmp_path, Draft().tar(), b"wheel" * 100) == (0, ["six-1.0-py3-none-any.whl"])


@pytest.mark.parametrize(
    "tar",
    [
        Draft().tar(),
        block(entry("wheels/../../six.whl", 5)) + padded(b"wheel") + bytes(1024),
        block(entry("/etc/six.whl", 5)) + padded(b"wheel") + bytes(1024),
        block(entry("wheels/six.whl", 0, b"2", "/etc/passwd")) + bytes(1024),
        block(entry("wheels/six.whl", (1 << 33) - 1)) + bytes(1024),
        block(entry("wheels/six.whl", 600)) + b"cut",
    ],
)
def test_bootstrap_takes_nothing_else(tar: bytes, tmp_path: Path) -> None:
    assert taken(tmp_path, tar, b"another wheel")[1] == []
