"""Web servers in memory that serve releases, with what a publisher does to sign one. No request leaves the process."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from nqrust.installer.release import upstream

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(b"o" * 32)


def pem(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def head(version: str, *, product: str = "nqrust-microvm", architecture: str = "x86_64") -> str:
    return f"# product: {product}\n# version: {version}\n# architecture: {architecture}\n"


@dataclass
class Web:
    """`pages`: address -> content, or the address of a redirect. `asked`: method and address of every request.
    `length`: another Content-Length in the answers to HEAD."""

    pages: dict[str, bytes | str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    length: str | None = None

    def publish(self, base: str, version: str, *, top: str | None = None, key: Ed25519PrivateKey | None = KEY) -> None:
        """Serve a release. `top`: another head of its list; `key`: None leaves it unsigned."""
        lines = []
        for name in (*upstream.ASSETS.values(), "alpine.ext4"):
            content = f"{name} of {version}\n".encode()
            self.pages[f"{base}/{name}"] = content
            lines.append(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
        self.put_list(base, (head(version) if top is None else top) + "".join(lines), key)

    def put_list(self, base: str, text: str, key: Ed25519PrivateKey | None = KEY) -> None:
        self.pages[f"{base}/{upstream.CHECKSUMS}"] = text.encode()
        self.pages.pop(f"{base}/{upstream.CHECKSUMS}.sig", None)
        if key is not None:
            self.pages[f"{base}/{upstream.CHECKSUMS}.sig"] = key.sign(text.encode())

    def text(self, base: str) -> str:
        page = self.pages[f"{base}/{upstream.CHECKSUMS}"]
        assert isinstance(page, bytes)
        return page.decode()

    def copy(self, source: str, target: str) -> None:
        """Serve everything below one address at another one too: what someone on the way does in a replay."""
        for address, page in list(self.pages.items()):
            if address.startswith(f"{source}/"):
                self.pages[address.replace(source, target, 1)] = page

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url}")
        page = self.pages.get(str(request.url))
        if page is None:
            return httpx.Response(404, request=request)
        if isinstance(page, str):
            return httpx.Response(302, headers={"Location": page}, request=request)
        body, length = page, str(len(page))
        if request.method == "HEAD":
            body, length = b"", length if self.length is None else self.length
        headers = [(b"Content-Length", length.encode("latin-1"))]
        return httpx.Response(200, headers=headers, stream=httpx.ByteStream(body), request=request)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Web:
    made = Web()

    def handle(transport: Any, request: httpx.Request) -> httpx.Response:
        return made.answer(request)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", handle)
    return made


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    path = tmp_path / "publisher.pub"
    path.write_bytes(pem(KEY))
    return str(path)
