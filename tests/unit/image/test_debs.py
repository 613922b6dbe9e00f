"""Packages come from the cache if they match apt's index, otherwise from a download. nqr verifies each."""

from __future__ import annotations

import hashlib

import pytest
from tests.fakes.host import FakeHost

from nqrust.host.errors import CommandFailed
from nqrust.host.port import Command
from nqrust.image.debs import DebCache, Package, dependency_names, parse_package
from nqrust.image.errors import ImageError

CACHE = "/var/cache/debs"
CONTENT = b"!<arch>\nthe package"
SHA = hashlib.sha256(CONTENT).hexdigest()
STANZA = f"""Package: busybox-static
Version: 1:1.35.0-4
Depends: libc6 (>= 2.36) | other, kmod
Description: many tools
 in one
Size: {len(CONTENT)}
SHA256: {SHA}
"""


def show(*names: str) -> tuple[str, ...]:
    return ("apt-cache", "show", "--no-all-versions", *names)


@pytest.fixture
def host() -> FakeHost:
    host = FakeHost.debian12()
    host.on(*show("busybox-static"), answer=STANZA)
    return host


def downloads(host: FakeHost, content: bytes) -> None:
    def answer(machine: FakeHost, cmd: Command) -> None:
        machine.put(f"{cmd.cwd}/busybox-static_1%3a1.35.0-4_amd64.deb", content)

    host.on("apt-get", prefix=True, changes=True, answer=answer)


def test_a_package_is_downloaded_once(host: FakeHost) -> None:
    downloads(host, CONTENT)
    cache = DebCache(host, CACHE)
    cache.ensure()
    package = cache.show("busybox-static")["busybox-static"]
    path = cache.fetch(package)
    assert host.read_bytes(path) == CONTENT
    assert host.listdir(CACHE) == ["busybox-static_1%3a1.35.0-4.deb", "packages.json"]
    asked = len(host.commands)
    assert cache.fetch(package) == path
    assert len(host.commands) == asked, "what is in the cache needs no network"


def test_without_an_index_the_checked_copy_is_used(host: FakeHost) -> None:
    downloads(host, CONTENT)
    cache = DebCache(host, CACHE)
    cache.ensure()
    path = cache.fetch(cache.show("busybox-static")["busybox-static"])
    host.uninstall("apt-cache")
    host.uninstall("apt-get")
    again = DebCache(host, CACHE)
    assert again.fetch(again.show("busybox-static")["busybox-static"]) == path
    host.put(path, b"tampered with")
    with pytest.raises(ImageError) as caught:
        again.fetch(again.show("busybox-static")["busybox-static"])
    assert caught.value.code == "NQR-IMG-002"


def test_another_file_than_the_index_names_is_refused(host: FakeHost) -> None:
    downloads(host, b"an error page")
    cache = DebCache(host, CACHE)
    cache.ensure()
    with pytest.raises(ImageError) as caught:
        cache.fetch(cache.show("busybox-static")["busybox-static"])
    assert caught.value.code == "NQR-IMG-003"
    assert host.listdir(CACHE) == ["packages.json"], "nothing of it is kept"


def test_a_failed_download_says_what_to_do(host: FakeHost) -> None:
    host.on("apt-get", prefix=True, answer=CommandFailed(("apt-get",), 100, "E: Failed to fetch"))
    cache = DebCache(host, CACHE)
    cache.ensure()
    with pytest.raises(ImageError, match="Failed to fetch") as caught:
        cache.fetch(cache.show("busybox-static")["busybox-static"])
    assert caught.value.code == "NQR-IMG-002" and "apt-get update" in caught.value.cure


def test_package_index_stanzas_are_parsed() -> None:
    package = parse_package(STANZA)
    assert package == Package("busybox-static", "1:1.35.0-4", len(CONTENT), SHA, "libc6 (>= 2.36) | other, kmod")
    assert dependency_names(package.depends) == ["libc6", "other", "kmod"]
    assert parse_package("Package: a\nVersion: 1\nSize: x\nSHA256: y") is None
    assert parse_package("") is None
