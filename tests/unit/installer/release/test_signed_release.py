"""Attacks on a release from an address: by whoever is on the way, and by whoever serves it. All must fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fakes.release_web import Web, key_file, web

from nqrust.host.local import LocalHost
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.step import Satisfied
from nqrust.installer.release import upstream
from nqrust.installer.release.fetch_step import FetchRelease
from nqrust.installer.release.sources import Opened, open_source, source_steps
from nqrust.installer.settings.model import Settings

__all__ = ["key_file", "web"]
HTTPS, HTTP, LOOPBACK = "https://releases.example", "http://releases.example", "http://127.0.0.1:8000"


def settings(source: str, key: str | None = None) -> Settings:
    return Settings.model_validate({"release": {"source": source, "public_key": key}})


def opened(source: str, key: str | None, cache: Path) -> Opened:
    return open_source(LocalHost(), settings(source, key), "", str(cache), NullReporter())


def fetched(found: Opened, source: str, key: str | None, cache: Path) -> FetchRelease:
    step = source_steps(settings(source, key), "", found, str(cache))[-1]
    assert isinstance(step, FetchRelease)
    step.apply(LocalHost())
    return step


# --- plain HTTP


@pytest.mark.parametrize(
    ("source", "with_key", "works"),
    [
        (f"{HTTP}/v0.5.0", False, False),
        (f"{HTTP}/v0.5.0", True, True),
        (f"{HTTPS}/v0.5.0", False, True),
        (f"{HTTPS}/v0.5.0", True, True),
        (f"{LOOPBACK}/v0.5.0", False, True),
        ("http://[::1]:8000/v0.5.0", False, True),
        ("http://localhost:8000/v0.5.0", False, False),
        ("http://127.0.0.1.releases.example/v0.5.0", False, False),
        ("http://127.0.0.1@releases.example/v0.5.0", False, False),
        ("http://0x7f000001/v0.5.0", False, False),
    ],
)
def test_plain_http_needs_a_key(source: str, with_key: bool, works: bool, web: Web, key_file: str, tmp_path: Path) -> None:
    web.publish(source, "0.5.0")
    key = key_file if with_key else None
    if works:
        found = opened(source, key, tmp_path)
        assert isinstance(fetched(found, source, key, tmp_path).inspect(LocalHost()), Satisfied)
        return
    with pytest.raises(ReleaseError) as refused:
        opened(source, key, tmp_path)
    assert refused.value.code == "NQR-REL-027" and source in refused.value.what and "--release-key" in refused.value.cure
    assert web.asked == [], "nothing is asked before that"


@pytest.mark.parametrize("name", ["checksums.txt", "release-manifest.json", "nqrust-manager-x86_64-linux-musl"])
def test_a_redirect_to_plain_http_counts_as_plain_http(name: str, web: Web, key_file: str, tmp_path: Path) -> None:
    base = f"{HTTPS}/v0.5.0"
    web.publish(base, "0.5.0")
    web.copy(base, f"{HTTP}/x")
    web.pages[f"{base}/{name}"] = f"{HTTP}/x/{name}"
    with pytest.raises(ReleaseError) as refused:
        fetched(opened(base, None, tmp_path), base, None, tmp_path)
    assert refused.value.code == "NQR-REL-027" and not [one for one in web.asked if HTTP in one]
    assert opened(base, key_file, tmp_path).release.version == "0.5.0", "the key checks what came"


def test_files_of_an_unsigned_release_do_not_come_over_plain_http_either(web: Web, tmp_path: Path) -> None:
    base, name = f"{HTTPS}/v0.5.0", upstream.ASSETS["agent"]
    web.publish(base, "0.5.0", key=None)
    found = opened(base, None, tmp_path)
    web.pages[f"{HTTP}/{name}"], web.pages[f"{base}/{name}"] = web.pages[f"{base}/{name}"], f"{HTTP}/{name}"
    with pytest.raises(ReleaseError) as refused:
        fetched(found, base, None, tmp_path)
    assert refused.value.code == "NQR-REL-027" and f"GET {HTTP}/{name}" not in web.asked


@pytest.mark.parametrize("source", ["http://[", "https://a b/v1", "http://x:port/v1"])
def test_a_malformed_address_is_an_error_of_the_user(source: str, web: Web, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError) as refused:
        opened(source, None, tmp_path)
    assert refused.value.code in ("NQR-REL-018", "NQR-REL-021", "NQR-REL-027")


def test_names_that_fit_no_address_are_not_taken(web: Web, tmp_path: Path) -> None:
    base = f"{HTTPS}/v0.5.0"
    web.publish(base, "0.5.0", top=f"{'0' * 64}  odd\x7fname.ext4\n", key=None)
    assert [image.name for image in opened(base, None, tmp_path).release.images] == ["alpine"]
