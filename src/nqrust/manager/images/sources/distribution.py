"""Copies a container image from a registry into an OCI layout (OCI distribution specification). A registry leads it to no service
of the manager's own machine.

skopeo goes wherever a registry sends it: to the place of a token, or of a layer. So it serves administrators alone, and only
through a proxy. Answers are not shown, because a registry may send a request to another service.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import httpx
from pydantic import ValidationError

from nqrust.contract.images import RegistryLogin
from nqrust.image.oci import layout, skopeo
from nqrust.image.oci.models import INDEX_TYPES, LARGEST_DOCUMENT, MANIFEST_TYPES, Descriptor, Index, Manifest
from nqrust.image.oci.reference import DOCKER_HUB, Reference
from nqrust.manager.images import download, outgoing
from nqrust.manager.images.outgoing import Way
from nqrust.manager.images.sources.port import Progress

M = TypeVar("M", Index, Manifest)
_SECONDS = 3600.0
_API_OF_DOCKER_HUB = "registry-1.docker.io"
_LARGEST_TOKEN = 1 << 20
_LONGEST_CHALLENGE = 2000
_PIECE = 1 << 20
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
_ACCEPT = ", ".join((*INDEX_TYPES, *MANIFEST_TYPES))


async def copy(
    reference: Reference, scratch: str, login: RegistryLogin | None, tls_verify: bool, tell: Progress, way: Way
) -> str:
    """Copy the image for this platform into the layout `scratch`/layout and return its path. `way`: of the downloads.

    Raises image.errors.ImageError as `skopeo.copy` and `layout.read` do; manager.errors.ImageError for this machine or a full disk;
    OSError.
    """
    target = f"{scratch}/layout"
    tell("asking the registry", 0, 0)
    try:
        await asyncio.wait_for(_copy(reference, target, login, tls_verify, tell, way), _SECONDS)
    except (TimeoutError, asyncio.TimeoutError) as error:
        raise skopeo.failed(reference, f"it took longer than {_SECONDS:.0f} s") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        if "WRONG_VERSION_NUMBER" in str(error):
            raise skopeo.plain_http(reference) from error
        raise skopeo.failed(reference, str(error).rstrip(".") or type(error).__name__) from error
    return target


async def _copy(
    reference: Reference, target: str, login: RegistryLogin | None, tls_verify: bool, tell: Progress, way: Way
) -> None:
    await asyncio.to_thread(os.makedirs, f"{target}/blobs/sha256", 0o700)
    host = _API_OF_DOCKER_HUB if reference.registry == DOCKER_HUB else reference.registry
    async with await outgoing.client(f"https://{host}", way, verify=tls_verify) as http:
        registry = _Registry(http, reference, f"https://{host}", login, tls_verify)
        try:
            content, kind = await registry.document(reference.digest or reference.tag)
        except httpx.TransportError:
            if tls_verify:
                raise
            registry.base = f"http://{host}"
            content, kind = await registry.document(reference.digest or reference.tag)
        top = Descriptor(mediaType=kind, digest=reference.digest or _digest(content), size=len(content))
        await asyncio.to_thread(_write, target, top.digest, content)
        if kind in INDEX_TYPES:
            chosen = layout.choose(_parsed(Index, content))
            content, _ = await registry.document(chosen.digest)
            await asyncio.to_thread(_write, target, chosen.digest, content)
        manifest = _parsed(Manifest, content)
        await _blobs(registry, manifest, target, tell)
    index = {"schemaVersion": 2, "manifests": [top.model_dump(exclude_none=True)]}
    await asyncio.to_thread(_write, target, "", json.dumps(index).encode())


async def _blobs(registry: _Registry, manifest: Manifest, target: str, tell: Progress) -> None:
    wanted = {blob.digest: blob for blob in (manifest.config, *manifest.layers)}
    total, done = sum(blob.size for blob in wanted.values()), 0
    if await asyncio.to_thread(download.room, target) < total:
        raise download.no_room()
    for blob in wanted.values():
        size = 0
        with open(_path(target, blob.digest), "xb") as file:  # noqa: ASYNC230 - writes go through a thread below
            async with registry.get(f"blobs/{blob.digest}") as answer:
                async for piece in answer.aiter_raw(_PIECE):
                    size += len(piece)
                    if size > blob.size:
                        raise layout.damaged(f"{blob.digest} is longer than its manifest says")
                    await asyncio.to_thread(download.append, file, piece)
                    done += len(piece)
                    tell("fetching the layers", done, total)


class _Registry:
    """`base`: its scheme and host. The token for its repository comes when it asks for one."""

    def __init__(self, http: httpx.AsyncClient, reference: Reference, base: str, login: RegistryLogin | None, tls: bool) -> None:
        self._http, self._reference, self.base, self._login, self._tls = http, reference, base, login, tls
        self._authorization = ""

    async def document(self, name: str) -> tuple[bytes, str]:
        """Return a manifest or an index, and its type."""
        content = bytearray()
        async with self.get(f"manifests/{name}") as answer:
            async for piece in answer.aiter_raw():
                content += piece
                if len(content) > LARGEST_DOCUMENT:
                    raise layout.damaged(f"{name} is larger than {LARGEST_DOCUMENT >> 20} MiB")
            told = answer.headers.get("content-type", "").partition(";")[0].strip()
        return bytes(content), told if told in (*INDEX_TYPES, *MANIFEST_TYPES) else _kind(bytes(content))

    @asynccontextmanager
    async def get(self, what: str) -> AsyncIterator[httpx.Response]:
        url = f"{self.base}/v2/{self._reference.path}/{what}"
        for again in (True, False):
            headers = {"Accept": _ACCEPT if what.startswith("manifests/") else "*/*", "Accept-Encoding": "identity"}
            headers |= {"Authorization": self._authorization} if self._authorization else {}
            async with self._http.stream("GET", url, headers=headers) as answer:
                self._require_tls(answer)
                if answer.status_code == 401 and again and answer.url.host == httpx.URL(url).host:  # not where it leads
                    self._authorization = await self._authorized(answer.headers.get("www-authenticate", ""))
                    continue
                self._check(answer)
                yield answer
                return

    def _require_tls(self, answer: httpx.Response) -> None:
        if self._tls and any(hop.url.scheme != "https" for hop in (*answer.history, answer)):
            raise skopeo.failed(self._reference, "the registry leads to an address without TLS")

    def _check(self, answer: httpx.Response) -> None:
        status = answer.status_code
        if status in (401, 403):
            raise skopeo.refused(self._reference, f"it answers {status}")
        if status == 404:
            raise skopeo.missing(self._reference, "the registry answers 404")
        if status != 200 or answer.headers.get("content-encoding", "identity") != "identity":
            raise skopeo.failed(self._reference, f"the registry answers {status}" if status != 200 else "it came compressed")

    async def _authorized(self, challenge: str) -> str:
        """Return the header that answers a challenge (RFC 7235; "Token Authentication" of the Distribution project)."""
        kind, _, rest = challenge.partition(" ")
        basic = self._login and base64.b64encode(f"{self._login.username}:{self._login.password}".encode()).decode()
        if kind.lower() == "basic" and basic:
            return f"Basic {basic}"
        told = dict(_PARAMETER.findall(rest[:_LONGEST_CHALLENGE]))  # a longer one could take minutes
        realm = told.get("realm", "")
        if kind.lower() != "bearer" or not realm.startswith("https://" if self._tls else ("https://", "http://")):
            raise skopeo.refused(self._reference, "it answers 401")
        asked = {"scope": f"repository:{self._reference.path}:pull"} | ({"service": told["service"]} if "service" in told else {})
        content = bytearray()
        url = httpx.URL(realm).copy_merge_params(asked)
        headers = {"Authorization": f"Basic {basic}"} if basic else {}
        async with self._http.stream("GET", url, headers={**headers, "Accept-Encoding": "identity"}) as answer:
            self._require_tls(answer)
            self._check(answer)
            async for piece in answer.aiter_raw():
                content += piece
                if len(content) > _LARGEST_TOKEN:
                    raise skopeo.failed(self._reference, "its token is too long")
        try:
            found = json.loads(content)
            token = str(found.get("token") or found["access_token"])
        except (ValueError, KeyError, AttributeError, RecursionError) as error:
            raise skopeo.failed(self._reference, "it gives no token") from error
        if not re.fullmatch(r"[\x21-\x7e]+", token):
            raise skopeo.failed(self._reference, "it gives no token")
        return f"Bearer {token}"


def _kind(content: bytes) -> str:
    return INDEX_TYPES[0] if b'"manifests"' in content and b'"layers"' not in content else MANIFEST_TYPES[0]


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _parsed(kind: type[M], content: bytes) -> M:
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise layout.damaged("the registry gives no valid manifest") from error


def _path(target: str, digest: str) -> str:
    return f"{target}/blobs/sha256/{digest.partition(':')[2]}" if digest else f"{target}/index.json"


def _write(target: str, digest: str, content: bytes) -> None:
    with open(_path(target, digest), "xb") as file:
        download.append(file, content)
