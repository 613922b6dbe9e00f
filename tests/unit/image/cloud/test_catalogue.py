"""The catalogue of cloud images, and checksums in the publishers' lists."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import httpx
import pytest

from nqrust.host.local import LocalHost
from nqrust.image.cloud import catalogue, fetching
from nqrust.image.errors import ImageError

A, B = "a" * 64, "b" * 128


@pytest.mark.parametrize(
    "name", ["debian:13", "debian:12", "ubuntu:22.04", "ubuntu:24.04", "ubuntu:26.04", "rocky:9", "alpine:3.22"]
)
def test_own_catalogue_has_it_over_https(name: str) -> None:
    found = catalogue.resolve(name, catalogue.read(LocalHost()))
    assert found is not None and found.name == name and found.description
    assert found.url.startswith("https://") and found.checksums.startswith("https://")


def test_names_of_the_own_catalogue_are_unique() -> None:
    names = [name for one in catalogue.read(LocalHost()).images for name in (one.name, *one.aliases)]
    assert len(names) == len(set(names))


def test_alias_and_unknown_name() -> None:
    known = catalogue.read(LocalHost())
    assert catalogue.resolve("debian:trixie", known) == catalogue.resolve("debian:13", known)
    assert catalogue.resolve("nginx:alpine", known) is None


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        (f"{A}  d.qcow2\n{'c' * 64}  d.qcow2.old\n", A),
        (f"{A} *d.qcow2\n", A),
        (f"# Signed\nSHA256 (d.qcow2) = {A}\n", A),
        (f"{A}  d.qcow2\n{B}  d.qcow2\n", B),
        (f"{B}\n", B),
        (f"{A.upper()}  ./d.qcow2\n", A),
        (f"{A}  dXqcow2\n", None),
        (f"{'a' * 63}  d.qcow2\n", None),
        ("<html>not found</html>", None),
    ],
)
def test_checksum_in_a_list(text: str, digest: str | None) -> None:
    assert catalogue.checksum(text, "d.qcow2") == digest


@pytest.mark.parametrize(
    "content",
    [b"{", b"[]", json.dumps({"images": [{"name": "x", "url": "file:///etc/shadow", "checksums": "http://x"}]}).encode()],
)
def test_broken_catalogue_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "catalogue.json").write_bytes(content)
    with pytest.raises(ImageError) as caught:
        catalogue.read(LocalHost(), str(tmp_path / "catalogue.json"))
    assert caught.value.code == "NQR-IMG-060"


@pytest.mark.parametrize("hops", [["http://mirror.example/list"], ["http://a.example/x", "https://mirror.example/list"]])
def test_list_of_checksums_comes_over_https_only(monkeypatch: pytest.MonkeyPatch, hops: list[str]) -> None:
    """Somebody on the way would choose the checksum, and then the image."""
    way = ["https://publisher.example/list", *hops]

    def answer(request: httpx.Request) -> httpx.Response:
        at = way.index(str(request.url))
        return (
            httpx.Response(200, stream=httpx.ByteStream(b"list"))
            if at + 1 == len(way)
            else httpx.Response(302, headers={"Location": way[at + 1]})
        )

    client = functools.partial(httpx.Client, transport=httpx.MockTransport(answer))
    monkeypatch.setattr(httpx, "Client", client)
    with pytest.raises(ImageError, match="without TLS") as error:
        fetching.text(way[0])
    assert error.value.code == "NQR-IMG-058"
    way[1:] = ["https://mirror.example/list"]
    assert fetching.text(way[0]) == "list"
