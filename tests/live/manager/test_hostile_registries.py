"""Operators pull from registries that send the manager to its own machine, or give more than they say.

127.0.0.2 stands for the manager's own machine here, and the rest of loopback for other machines.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.container_images import Image, busybox
from tests.live.container_registry import PASSWORD, USER, Registry
from tests.live.manager.test_pulling import WEB, pulled

from nqrust.client import calls
from nqrust.contract.images import RegistryLogin
from nqrust.manager.app import prepare

pytestmark = pytest.mark.usefixtures("own_machine")


@pytest.fixture
def own_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nqrust.manager.images.outgoing._is_local", lambda address: str(address) == "127.0.0.2")


class Web:
    """A server that answers as `answers` says: start of a path -> status, headers, body. `asked`: paths and authorizations.
    `challenge`: for requests without an authorization, or ""."""

    def __init__(self, address: str) -> None:
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[tuple[str, str]] = []
        self.challenge = ""
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.asked.append((self.path, self.headers.get("authorization", "")))
                fitting = [found for start, found in web.answers.items() if self.path.startswith(start)]
                status, headers, body = fitting[0] if fitting else (404, {}, b"")
                if web.challenge and not self.headers.get("authorization"):
                    status, headers, body = 401, {"WWW-Authenticate": web.challenge}, b""
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((address, 0), Handler)
        self.url = f"http://{address}:{self._server.server_port}"
        self.address = f"{address}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def hostile() -> Iterator[Web]:
    web = Web("127.0.0.1")
    yield web
    web.close()


@pytest.fixture
def inside() -> Iterator[Web]:
    """A service of the manager's own machine, such as the metadata service of its cloud."""
    web = Web("127.0.0.2")
    web.answers["/"] = 200, {}, json.dumps({"Token": "of the machine", "token": "of the machine"}).encode()
    yield web
    web.close()


def manifest_of(size: int) -> bytes:
    blob = {"mediaType": "x", "digest": f"sha256:{'0' * 64}", "size": size}
    return json.dumps({"schemaVersion": 2, "config": blob, "layers": []}).encode()


@pytest.mark.parametrize("role", ["operator", "admin"])
@pytest.mark.parametrize("what", ["manifest", "blob", "token"])
async def test_no_redirect_and_no_place_of_a_token_leads_a_user_to_the_managers_machine(
    pulling: Any, hostile: Web, inside: Web, what: str, role: str
) -> None:
    there = 307, {"Location": f"{inside.url}/latest/credentials"}, b""
    hostile.answers["/v2/a/manifests"] = there if what == "manifest" else (200, {}, manifest_of(100))
    hostile.answers["/v2/a/blobs"] = there
    if what == "token":
        hostile.answers = {"/": (401, {"WWW-Authenticate": f'Bearer realm="{inside.url}/latest/credentials",service="x"'}, b"")}
    image = await pulled(pulling, f"{hostile.address}/a:1", client=await pulling.role(role))
    assert image.state == "missing" and "this machine" in image.error
    assert inside.asked == [] and hostile.asked
    assert not any("of the machine" in authorization for _, authorization in hostile.asked)


async def test_an_operator_sees_no_answer_of_a_service_that_is_no_registry(pulling: Any, hostile: Web) -> None:
    hostile.answers["/"] = 500, {}, b"inner secret"
    image = await pulled(pulling, f"{hostile.address}/a:1", client=await pulling.role("operator"))
    assert "500" in image.error and "secret" not in image.error


@pytest.mark.parametrize("role", ["operator", "admin"])
@pytest.mark.parametrize(("size", "sent", "said"), [(10, 5000, "longer than"), (2**42, 10, "1 GiB")])
async def test_a_layer_that_is_longer_than_said_or_than_the_disk_ends_the_pull(
    pulling: Any, hostile: Web, size: int, sent: int, said: str, role: str
) -> None:
    hostile.answers["/v2/a/manifests"] = 200, {}, manifest_of(size)
    hostile.answers["/v2/a/blobs"] = 200, {}, bytes(sent)
    image = await pulled(pulling, f"{hostile.address}/a:1", client=await pulling.role(role))
    assert image.state == "missing" and said in image.error
    assert os.listdir(pulling.core.settings.image_root) == ["tiny"]


async def test_an_operator_pulls_by_tag_digest_and_index(pulling: Any, registry: Registry, hostile: Web) -> None:
    operator = await pulling.role("operator")
    reference, digest = registry.push(Image([busybox()], WEB), "team/op:1")
    image = await pulled(pulling, reference, client=operator)
    assert (image.state, image.error, image.digest) == ("ready", "", digest)
    by_digest = await pulled(pulling, f"{reference.rpartition(':')[0]}@{digest}", client=operator, name="pinned")
    assert (by_digest.state, by_digest.digest) == ("ready", digest)
    blobs = registry.place / "pushed" / "blobs" / "sha256"
    manifest = (blobs / digest.partition(":")[2]).read_bytes()
    kind = "application/vnd.oci.image.manifest.v1+json"
    other = {"mediaType": kind, "digest": f"sha256:{'1' * 64}", "size": 5, "platform": {"os": "linux", "architecture": "arm64"}}
    ours = {"mediaType": kind, "digest": digest, "size": len(manifest), "platform": {"os": "linux", "architecture": "amd64"}}
    index = json.dumps({"schemaVersion": 2, "manifests": [other, ours]}).encode()
    hostile.answers["/v2/b/manifests/1"] = 200, {"Content-Type": "application/vnd.oci.image.index.v1+json"}, index
    hostile.answers[f"/v2/b/manifests/{digest}"] = 200, {"Content-Type": kind}, manifest
    for blob in blobs.iterdir():
        hostile.answers[f"/v2/b/blobs/sha256:{blob.name}"] = 200, {}, blob.read_bytes()
    indexed = await pulled(pulling, f"{hostile.address}/b:1", client=operator)
    assert (indexed.state, indexed.error, indexed.digest) == ("ready", "", digest)
    hostile.answers[f"/v2/b/manifests/sha256:{hashlib.sha256(b'').hexdigest()}"] = 200, {"Content-Type": kind}, manifest
    wrong = await pulled(pulling, f"{hostile.address}/b@sha256:{hashlib.sha256(b'').hexdigest()}", client=operator, name="wrong")
    assert wrong.state == "missing" and "digest" in wrong.error


async def test_an_operator_needs_no_skopeo_and_no_proxy(
    pulling: Any, registry: Registry, hostile: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, digest = registry.push(Image([busybox()], WEB), "team/direct:1")
    monkeypatch.setenv("http_proxy", hostile.url)
    monkeypatch.setattr("nqrust.image.oci.skopeo.copy", None)
    image = await pulled(pulling, reference, client=await pulling.role("operator"))
    assert (image.state, image.digest) == ("ready", digest) and hostile.asked == []


async def test_an_operator_signs_in_to_a_private_registry(pulling: Any, tmp_path: Path) -> None:
    operator, private = await pulling.role("operator"), Registry(tmp_path / "private", private=True)
    try:
        reference, digest = private.push(Image([busybox()], WEB), "secret/op:1")
        without = await pulled(pulling, reference, client=operator)
        assert "refuses access" in without.error
        image = await pulled(pulling, reference, client=operator, login=RegistryLogin(username=USER, password=PASSWORD))
        assert (image.state, image.digest) == ("ready", digest)
    finally:
        private.close()


async def test_an_operators_token_comes_from_where_the_registry_says_and_goes_to_it_alone(pulling: Any, hostile: Web) -> None:
    tokens, storage = Web("127.0.0.1"), Web("127.0.0.1")
    try:
        tokens.answers["/token"] = 200, {}, b'{"access_token": "abc"}'
        hostile.challenge = f'Bearer realm="{tokens.url}/token",service="s"'
        hostile.answers["/v2/a/manifests"] = 200, {}, manifest_of(100)
        hostile.answers["/v2/a/blobs"] = 307, {"Location": f"{storage.url}/layer"}, b""
        login = RegistryLogin(username="me", password="word")
        await pulled(pulling, f"{hostile.address}/a:1", client=await pulling.role("operator"), login=login)
        assert tokens.asked == [("/token?scope=repository%3Aa%3Apull&service=s", "Basic bWU6d29yZA==")]
        assert [said for _, said in hostile.asked] == ["", "Bearer abc", "Bearer abc"]
        assert storage.asked == [("/layer", "")]
    finally:
        tokens.close()
        storage.close()


async def test_a_place_that_the_registry_leads_to_asks_for_no_login(pulling: Any, hostile: Web) -> None:
    storage = Web("127.0.0.3")
    try:
        storage.challenge = f'Bearer realm="{storage.url}/token",service="s"'
        hostile.answers["/v2/a/manifests"] = 200, {}, manifest_of(100)
        hostile.answers["/v2/a/blobs"] = 307, {"Location": f"{storage.url}/layer"}, b""
        login = RegistryLogin(username="me", password="word")
        image = await pulled(pulling, f"{hostile.address}/a:1", client=await pulling.role("operator"), login=login)
        assert image.state == "missing" and {said for _, said in storage.asked} == {""}
    finally:
        storage.close()


@pytest.mark.parametrize("field", ["ExposedPorts", "Volumes"])
async def test_no_text_of_an_image_keeps_the_manager_from_starting_again(pulling: Any, registry: Registry, field: str) -> None:
    """PostgreSQL stores no NUL. The manager reads the folder of images at its start."""
    reference, _ = registry.push(Image([busybox()], WEB | {field: {"80\0/tcp": {}}}), "nul:1")
    image = await pulled(pulling, reference, client=await pulling.role("operator"))
    assert (image.state, image.error) == ("ready", "")
    assert "80\ufffd/tcp" in (*image.manifest.process.ports, *image.manifest.process.volumes)
    await prepare(pulling.core)
    assert (await pulling.admin.send(calls.get_image(image.name))).state == "ready"
