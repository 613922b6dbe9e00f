"""A published release in nqr's own form, at an address and in a folder: what the list must vouch for."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.release_web import KEY, OTHER_KEY, head, pem
from tests.fakes.web import serve

from nqrust.host.local import LocalHost
from nqrust.installer.engine.errors import NqrError
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.step import Satisfied
from nqrust.installer.release import upstream
from nqrust.installer.release.build import render
from nqrust.installer.release.bundled import COMPONENTS, DESCRIPTOR, read_release
from nqrust.installer.release.descriptor import Artifact, Release
from nqrust.installer.release.sources import open_source, source_steps
from nqrust.installer.settings.model import Settings

FILES = {"wheels/nqrust_microvm-0.5.0-py3-none-any.whl": b"wheel", "requirements/manager.txt": b"manag", "guest-agent": b"agent"}
Change = Callable[[Path], None]


def published(folder: Path, *, key: Any = KEY, **changes: Any) -> None:
    """Write a release in own form into `folder`, as scripts/publish_release.py does."""
    folder.mkdir(parents=True)
    artifacts = []
    for name, content in FILES.items():
        (folder / name.rpartition("/")[2]).write_bytes(content)
        artifacts.append(Artifact(name=name, size=len(content), sha256=hashlib.sha256(content).hexdigest()))
    release = Release(form="bundled", version="0.5.0", components=COMPONENTS, artifacts=tuple(artifacts))
    (folder / DESCRIPTOR).write_bytes(render(release.model_copy(update=changes)))
    sign(folder, key)


def sign(folder: Path, key: Any = KEY) -> None:
    names = sorted(file.name for file in folder.iterdir() if not file.name.startswith(upstream.CHECKSUMS))
    lines = "".join(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    text = (head("0.5.0") + lines).encode()
    (folder / upstream.CHECKSUMS).write_bytes(text)
    (folder / f"{upstream.CHECKSUMS}.sig").write_bytes(key.sign(text))


@pytest.fixture(params=["an address", "a folder"])
def release(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Settings, Path]]:
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "served" / "v0.5.0"
    published(folder)
    (tmp_path / "key.pub").write_bytes(pem(KEY))
    with serve(tmp_path / "served") as served:
        source = f"{served.url}/v0.5.0" if request.param == "an address" else str(folder)
        yield Settings.model_validate({"release": {"source": source, "public_key": str(tmp_path / "key.pub")}}), folder


def fetched(settings: Settings, cache: Path) -> Path:
    """Open the source and carry out its steps except the record of versions."""
    host = LocalHost()
    opened = open_source(host, settings, "", str(cache), NullReporter())
    assert not cache.exists(), "opening a source writes nothing"
    *_, step = source_steps(settings, "", opened, str(cache))
    step.apply(host)
    step.verify(host)
    assert isinstance(step.inspect(host), Satisfied)
    return Path(opened.directory)


def test_every_file_arrives_in_its_place(release: tuple[Settings, Path], tmp_path: Path) -> None:
    settings, _ = release
    directory = fetched(settings, tmp_path / "cache")
    assert {name: (directory / name).read_bytes() for name in FILES} == FILES
    found = read_release(LocalHost(), str(directory))
    assert found is not None and found.form == "bundled" and found.version == "0.5.0"


def other_content(folder: Path) -> None:
    (folder / "guest-agent").write_bytes(b"AGENT")


def swapped(folder: Path) -> None:
    shutil.copy(folder / "manager.txt", folder / "guest-agent")


def missing(folder: Path) -> None:
    (folder / "guest-agent").unlink()


def other_descriptor(folder: Path) -> None:
    raw = json.loads((folder / DESCRIPTOR).read_bytes())
    (folder / DESCRIPTOR).write_text(
        json.dumps({**raw, "privileges": [{"component": "manager", "argv": ["/bin/sh"], "why": "x"}]})
    )


def descriptor_of(**changes: Any) -> Change:
    def change(folder: Path) -> None:
        shutil.rmtree(folder)
        published(folder, **changes)

    return change


def privilege(**given: Any) -> Change:
    """A descriptor whose privilege would become another line of sudoers(5), or cannot be filled in."""

    def change(folder: Path) -> None:
        raw = json.loads((folder / DESCRIPTOR).read_bytes())
        raw["privileges"] = [{"component": "manager", "argv": ["/usr/bin/cp"], "why": "x", **given}]
        (folder / DESCRIPTOR).write_text(json.dumps(raw))
        sign(folder)

    return change


def other_signature(folder: Path) -> None:
    sign(folder, OTHER_KEY)


def one_bit_of_the_signature(folder: Path) -> None:
    path = folder / f"{upstream.CHECKSUMS}.sig"
    data = bytearray(path.read_bytes())
    data[7] ^= 1
    path.write_bytes(bytes(data))


def one_bit_of_the_list(folder: Path) -> None:
    path = folder / upstream.CHECKSUMS
    path.write_bytes(path.read_bytes().replace(b"0.5.0", b"0.5.1", 1))


def unlisted(folder: Path) -> None:
    kept = (folder / "guest-agent").read_bytes()
    (folder / "guest-agent").unlink()
    sign(folder)
    (folder / "guest-agent").write_bytes(kept)


def leaving(name: str) -> Change:
    return descriptor_of(artifacts=(Artifact(name=name, size=1, sha256=hashlib.sha256(b"agent").hexdigest()),))


TAMPERED: dict[str, tuple[Change, str]] = {
    "another content": (other_content, "NQR-REL-022"),
    "a file in place of another": (swapped, "NQR-REL-022"),
    "a descriptor that was changed": (other_descriptor, "NQR-REL-022"),
    "a descriptor of another version": (descriptor_of(version="0.4.0"), "NQR-REL-073"),
    "an artifact that leaves the folder": (leaving("a/../../guest-agent"), "NQR-REL-073"),
    "two artifacts of one name": (
        descriptor_of(artifacts=tuple(Artifact(name=f"{n}/guest-agent", size=5, sha256=hashlib.sha256(b"agent").hexdigest()) for n in "ab")),
        "NQR-REL-073",
    ),
    "an artifact that is not in the list": (unlisted, "NQR-REL-073"),
    "a privilege with a second line": (privilege(arguments="^a$\nnqrust ALL=(ALL) ALL #$"), "NQR-REL-073"),
    "a privilege whose reason has a second line": (privilege(why="x\nnqrust ALL=(ALL) ALL"), "NQR-REL-073"),
    "a privilege with an unknown place": (privilege(arguments="^{home}/a$"), "NQR-REL-073"),
    "a privilege without its end": (privilege(arguments="^a"), "NQR-REL-073"),
    "a privilege with an unknown folder": (privilege(argv=["{x}/cp"]), "NQR-REL-073"),
    "a privilege without a command": (privilege(argv=[]), "NQR-REL-073"),
    "a list that another key signed": (other_signature, "NQR-REL-024"),
    "one bit in the signature": (one_bit_of_the_signature, "NQR-REL-024"),
    "one byte in the list": (one_bit_of_the_list, "NQR-REL-024"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "code"), TAMPERED.values(), ids=TAMPERED)
def test_a_release_that_was_tampered_with_is_refused(
    change: Change, code: str, release: tuple[Settings, Path], tmp_path: Path
) -> None:
    settings, folder = release
    change(folder)
    with pytest.raises(NqrError) as refused:
        fetched(settings, tmp_path / "cache")
    assert refused.value.code == code, refused.value


def test_a_missing_file_is_named(release: tuple[Settings, Path], tmp_path: Path) -> None:
    settings, folder = release
    missing(folder)
    with pytest.raises(NqrError, match="guest-agent") as refused:
        fetched(settings, tmp_path / "cache")
    assert refused.value.code in ("NQR-REL-021", "NQR-REL-022")


def test_a_link_in_a_folder_is_no_file_of_a_release(tmp_path: Path) -> None:
    folder = tmp_path / "v0.5.0"
    published(folder)
    (folder / DESCRIPTOR).rename(tmp_path / "elsewhere")
    (folder / DESCRIPTOR).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NqrError) as refused:
        fetched(Settings.model_validate({"release": {"source": str(folder)}}), tmp_path / "cache")
    assert refused.value.code == "NQR-REL-021"
