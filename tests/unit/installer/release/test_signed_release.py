"""Attacks on a release from an address: by whoever is on the way, and by whoever serves it. All must fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.fakes.release_web import OTHER_KEY, Web, head, key_file, web

from nqrust.host.local import LocalHost
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.step import Satisfied
from nqrust.installer.release import upstream
from nqrust.installer.release.fetch_step import FetchRelease
from nqrust.installer.release.remember_step import RememberRelease
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


# --- what the signed list binds


def old_at_new_address(web: Web, base: str) -> None:
    web.publish(f"{HTTPS}/v0.4.0", "0.4.0")
    web.copy(f"{HTTPS}/v0.4.0", base)


def listed(change: Callable[[str], str]) -> Callable[[Web, str], None]:
    """The publisher's key signed the changed list."""
    return lambda web, base: web.put_list(base, change(web.text(base)))


def tampered(web: Web, base: str) -> None:
    web.pages[f"{base}/{upstream.CHECKSUMS}"] = web.text(base).replace("# version: 0.5.0", "# version: 0.6.0").encode()


def swapped(web: Web, base: str) -> None:
    manager, agent = (f"{base}/{upstream.ASSETS[name]}" for name in ("manager", "agent"))
    web.pages[manager], web.pages[agent] = web.pages[agent], web.pages[manager]


def without(name: str) -> Callable[[Web, str], None]:
    def act(web: Web, base: str) -> None:
        del web.pages[f"{base}/{name}"]

    return act


TOP = head("0.5.0")


@dataclass(frozen=True)
class Attack:
    name: str
    act: Callable[[Web, str], None]
    code: str
    says: str = ""


ATTACKS = (
    Attack("an old release at the address of a new one", old_at_new_address, "NQR-REL-029", "version is 0.4.0, not 0.5.0"),
    Attack(
        "a list of another product", listed(lambda text: text.replace("nqrust-microvm", "nqrust-other")), "NQR-REL-029", "product"
    ),
    Attack(
        "a list for another machine", listed(lambda text: text.replace(": x86_64", ": aarch64")), "NQR-REL-029", "architecture"
    ),
    Attack("a list in upstream's form", listed(lambda text: text.replace(TOP, "")), "NQR-REL-028", "product and the version"),
    Attack("a list without a version", listed(lambda text: text.replace("# version: 0.5.0\n", "")), "NQR-REL-028", "the version"),
    Attack("two versions", listed(lambda text: "# version: 0.4.0\n" + text), "NQR-REL-028", "twice"),
    Attack("a version of no order", listed(lambda text: text.replace("0.5.0", "nightly", 1)), "NQR-REL-028", "nightly"),
    Attack("a head below the files", listed(lambda text: text.removeprefix(TOP) + TOP), "NQR-REL-028"),
    Attack("a head that was changed", tampered, "NQR-REL-024"),
    Attack("a list that another key signed", lambda web, base: web.put_list(base, web.text(base), OTHER_KEY), "NQR-REL-024"),
    Attack("no signature", lambda web, base: web.put_list(base, web.text(base), None), "NQR-REL-021"),
    Attack("renamed files", swapped, "NQR-REL-022"),
    Attack("a program left out", without(upstream.ASSETS["agent"]), "NQR-REL-021", "agent"),
    Attack("the web UI left out", without(upstream.ASSETS["ui"]), "NQR-REL-021", "nqrust-ui"),
    Attack("an image left out", without("alpine.ext4"), "NQR-REL-021", "alpine"),
)


@pytest.mark.parametrize("scheme", [HTTP, HTTPS])
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_a_key_refuses_what_its_publisher_did_not_release(
    attack: Attack, scheme: str, web: Web, key_file: str, tmp_path: Path
) -> None:
    base = f"{scheme}/v0.5.0"
    web.publish(base, "0.5.0")
    attack.act(web, base)
    with pytest.raises(ReleaseError) as refused:
        fetched(opened(base, key_file, tmp_path), base, key_file, tmp_path)
    assert refused.value.code == attack.code and attack.says in refused.value.what
    assert len(refused.value.cure) > 20


@pytest.mark.parametrize("tag", ["v0.5.0", "0.5.0", "release-0.5.0", "latest", "stable"])
def test_a_signed_release_is_taken_at_an_address_that_fits(tag: str, web: Web, key_file: str, tmp_path: Path) -> None:
    base = f"{HTTP}/{tag}"
    web.publish(base, "0.5.0", top="# made by release.sh\n# commit: abc\n" + TOP)
    found = opened(base, key_file, tmp_path)
    assert found.release.version == "0.5.0" and len(found.signed_by) == 64
    remember, fetch = source_steps(settings(base, key_file), "", found, str(tmp_path))
    assert remember == RememberRelease(found.signed_by, "0.5.0") and isinstance(fetch, FetchRelease)


def test_only_signed_text_names_the_version(web: Web, key_file: str, tmp_path: Path) -> None:
    base = f"{HTTP}/latest"
    web.publish(base, "0.5.0")
    web.pages[f"{base}/{upstream.MANIFEST}"] = b'{"version": "v9.9.9"}'
    assert opened(base, key_file, tmp_path).release.version == "0.5.0"
    assert not [one for one in web.asked if upstream.MANIFEST in one]


def test_without_a_key_upstreams_form_is_taken_as_before(web: Web, tmp_path: Path) -> None:
    base = f"{HTTPS}/v0.4.2"
    web.publish(base, "0.4.2", top="", key=None)
    web.pages.pop(f"{base}/{upstream.ASSETS['ui']}")
    found = opened(base, None, tmp_path)
    assert found.release.version == "0.4.2" and found.signed_by == ""
    assert [component.name for component in found.release.components] == ["manager", "agent", "guest-agent"]
    assert [step.kind for step in source_steps(settings(base), "", found, str(tmp_path))] == ["fetch-release"]


@pytest.mark.parametrize("length", ["", "many", "\u00b2", "-1", "9" * 5000])
def test_a_server_that_names_no_size_is_not_believed(length: str, web: Web, key_file: str, tmp_path: Path) -> None:
    base = f"{HTTP}/v0.5.0"
    web.publish(base, "0.5.0")
    web.length = length
    with pytest.raises(ReleaseError) as refused:
        opened(base, key_file, tmp_path)
    assert refused.value.code == "NQR-REL-021"


def test_names_that_fit_no_address_are_not_taken(web: Web, tmp_path: Path) -> None:
    base = f"{HTTPS}/v0.5.0"
    web.publish(base, "0.5.0", top=f"{'0' * 64}  odd\x7fname.ext4\n", key=None)
    assert [image.name for image in opened(base, None, tmp_path).release.images] == ["alpine"]
