"""A release in upstream's form on a server, through the same sources as the bundled one."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fakes.upstream_release import served_release  # noqa: F401  the fixture `release`

from nqrust.host.local import LocalHost
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.step import Needed, Satisfied
from nqrust.installer.release import upstream
from nqrust.installer.release.sources import open_source, source_steps
from nqrust.installer.settings.model import Settings


def settings(source: str) -> Settings:
    return Settings.model_validate({"release": {"source": source}})


def test_upstream_release_is_described_and_fetched(release: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = release
    host, cache = LocalHost(), tmp_path / "cache"
    wanted = settings(address)
    opened = open_source(host, wanted, "", str(cache), NullReporter())
    assert opened.release.form == "upstream" and opened.release.version == "0.4.2"
    assert {c.name for c in opened.release.components} == {"manager", "agent", "guest-agent", "ui"}
    assert [image.name for image in opened.release.images] == ["alpine"]
    assert opened.release.database_role_attributes == ("CREATEROLE",)
    assert not cache.exists(), "opening a source writes nothing"
    (step,) = source_steps(wanted, "", opened, str(cache))
    assert isinstance(step.inspect(host), Needed)
    step.apply(host)
    step.verify(host)
    assert isinstance(step.inspect(host), Satisfied)
    name = upstream.ASSETS["manager"]
    assert (Path(opened.directory) / name).read_bytes() == (folder / name).read_bytes()


def test_an_asset_that_was_swapped_is_refused(release: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = release
    host, wanted = LocalHost(), settings(address)
    opened = open_source(host, wanted, "", str(tmp_path / "cache"), NullReporter())
    asset = folder / upstream.ASSETS["agent"]
    asset.write_bytes(asset.read_bytes()[::-1])
    (step,) = source_steps(wanted, "", opened, str(tmp_path / "cache"))
    with pytest.raises(ReleaseError) as failure:
        step.apply(host)
    assert failure.value.code == "NQR-REL-022"
    assert isinstance(step.inspect(host), Needed), "a half-fetched release is not taken for one"


def test_a_release_without_checksums_is_refused(release: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = release
    (folder / upstream.CHECKSUMS).write_text("")
    with pytest.raises(ReleaseError) as failure:
        open_source(LocalHost(), settings(address), "", str(tmp_path / "cache"), NullReporter())
    assert failure.value.code == "NQR-REL-025"


def test_a_file_that_the_server_lost_comes_from_the_mirror(release: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = release
    mirror = folder.parent / "mirror"
    mirror.mkdir()
    wanted = Settings.model_validate({"release": {"source": address, "mirror": f"{address.rpartition('/')[0]}/mirror/"}})
    opened = open_source(LocalHost(), wanted, "", str(tmp_path / "cache"), NullReporter())
    name = upstream.ASSETS["agent"]
    (folder / name).rename(mirror / name)
    (step,) = source_steps(wanted, "", opened, str(tmp_path / "cache"))
    step.apply(LocalHost())
    assert (Path(opened.directory) / name).read_bytes() == (mirror / name).read_bytes()


def test_a_tag_that_does_not_exist_says_so(release: tuple[str, Path], tmp_path: Path) -> None:
    address, _ = release
    with pytest.raises(ReleaseError) as failure:
        open_source(LocalHost(), settings(address.replace("v0.4.2", "v9")), "", str(tmp_path), NullReporter())
    assert failure.value.code == "NQR-REL-021"


@pytest.mark.parametrize("source", ["bundeld", "/no/such/file.tar", "github:owner", "github:a/b@../c"])
def test_invalid_release_source_is_named(source: str, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError) as failure:
        open_source(LocalHost(), settings(source), "", str(tmp_path), NullReporter())
    assert failure.value.code == "NQR-REL-018"


def test_checksum_lines() -> None:
    digest = "ab" * 32
    text = f"{digest}  plain\n{digest.upper()} *dist/binary\n# comment\nshort  x\n{digest} one-space\n"
    assert upstream.parse_checksums(text) == {"plain": digest, "binary": digest}
