"""Answers of hostile registries, without a network."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from nqrust.image.errors import ImageError
from nqrust.image.oci import reference
from nqrust.manager.errors import ImageError as ManagerImageError
from nqrust.manager.images import outgoing
from nqrust.manager.images.sources.distribution import _Registry
from nqrust.tls.authority import new_authority

BASE = "https://registry.example"


async def document(answer: Callable[[httpx.Request], httpx.Response]) -> bytes:
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), follow_redirects=True) as http:
        return (await _Registry(http, reference.parse("registry.example/a:1"), BASE, None, True).document("1"))[0]


def body(content: bytes) -> httpx.Response:
    return httpx.Response(200, stream=httpx.ByteStream(content))


async def test_long_challenge_does_not_stop_the_manager() -> None:
    challenge = {"WWW-Authenticate": f"Bearer {'a' * 60_000}"}
    began = time.monotonic()
    with pytest.raises(ImageError, match="401"):
        await document(lambda request: httpx.Response(401, headers=challenge))
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("scheme", ["https", "http"])
async def test_manifest_comes_over_tls_also_after_a_redirect(scheme: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        there = f"{scheme}://mirror.example/m"
        return body(b"{}") if request.url.host == "mirror.example" else httpx.Response(307, headers={"Location": there})

    if scheme == "https":
        assert await document(answer) == b"{}"
        return
    with pytest.raises(ImageError, match="without TLS"):
        await document(answer)


@pytest.mark.parametrize("token", [b"[]", b'{"token": ""}', b'{"token": "a\\nb"}', b"[" * 100_000, b"no json"])
async def test_token_that_is_none_is_refused(token: bytes) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="{BASE}/token"'}
    with pytest.raises(ImageError, match="no token"):
        await document(lambda r: body(token) if r.url.path == "/token" else httpx.Response(401, headers=challenge))


async def test_challenge_after_a_redirect_without_tls_is_not_answered() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        if request.url.host == "registry.example":
            return httpx.Response(307, headers={"Location": "http://mirror.example/m"})
        return httpx.Response(401, headers={"WWW-Authenticate": 'Bearer realm="https://thief.example/token"'})

    with pytest.raises(ImageError, match="without TLS"):
        await document(answer)
    assert asked == ["registry.example", "mirror.example"]


async def test_credentials_do_not_go_to_a_place_without_tls() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return httpx.Response(401, headers={"WWW-Authenticate": 'Bearer realm="http://tokens.example/token"'})

    with pytest.raises(ImageError, match="401"):
        await document(answer)
    assert asked == ["registry.example"]


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
async def test_file_of_certificates_of_the_environment_counts(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for other in ("SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(other, raising=False)
    own = new_authority("own")
    (tmp_path / "ca.crt").write_text(own.certificate)
    monkeypatch.setenv(name, str(tmp_path / "ca.crt"))
    trusted = outgoing._trusted().get_ca_certs(binary_form=True)
    assert ssl.PEM_cert_to_DER_cert(own.certificate) in trusted
    monkeypatch.setenv(name, str(tmp_path / "missing"))
    with pytest.raises(ManagerImageError, match="cannot be read"):
        await outgoing.client("https://registry.example", outgoing.Way())
