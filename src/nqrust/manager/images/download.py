"""Downloads an image: first its image.json, checked against the user's sha256, then the files with their sha256 in it.

Only verified files get their final names, incomplete downloads never count as present, and the disk keeps free space.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import tempfile
from typing import BinaryIO
from urllib.parse import urljoin

import httpx

from nqrust.contract.images import MANIFEST, Blob, Download, ImageManifest
from nqrust.image.folder import PRIVATE
from nqrust.manager.errors import ImageError
from nqrust.manager.images import folder, outgoing
from nqrust.manager.images.outgoing import Way

_MANIFEST_LIMIT = 256 * 1024
_KEPT_FREE = 1024**3
_SECONDS = 6 * 3600.0
_USERINFO = re.compile(r"(?<=//)[^/?#]*@")
_AS_IT_IS = {"Accept-Encoding": "identity"}


async def manifest(url: str, sha256: str, way: Way) -> ImageManifest:
    """Return the image.json at `url` if its sha256 (hex) matches; raises ImageError. `way`: see `outgoing`."""
    if not url.lower().startswith(("http://", "https://")):
        raise ImageError(f"{url} is neither http:// nor https://.", cure="Give the address of an image.json.")
    content, shown = b"", _USERINFO.sub("", url)
    try:
        async with (
            await outgoing.client(url, way) as http,
            http.stream("GET", url, headers=_AS_IT_IS) as answer,
        ):
            if answer.status_code != 200:
                raise ImageError(f"{shown} answers {answer.status_code}.", cure="Check the address and its server.")
            _check_coding(answer, shown)
            async for chunk in answer.aiter_raw():
                content += chunk
                if len(content) > _MANIFEST_LIMIT:
                    raise ImageError(f"{shown} is too large for an {MANIFEST}.", cure="Give the address of an image.json.")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ImageError(
            f"{shown} cannot be fetched: {error or type(error).__name__}.",
            cure="Check the address, and the network and proxy of the manager's host.",
        ) from error
    if hashlib.sha256(content).hexdigest() != sha256.lower():
        raise ImageError(
            f"{shown} does not match the given sha256.", cure="Compare address and digest with those of the publisher."
        )
    return folder.parse_manifest(content, shown)


def _check_coding(answer: httpx.Response, what: str) -> None:
    """Raise ImageError for a body that is compressed though nobody asked for that: a few bytes could become any number."""
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise ImageError(f"{what} came compressed.", cure="Serve the file as it is, without a content coding.")


def beginning(wanted: ImageManifest) -> Download:
    """Return the progress at the start: none of the bytes in the manifest."""
    return Download(total=sum(blob.size for blob in folder.blobs(wanted)))


def room(path: str) -> int:
    """Return the bytes that images may still use of the disk of `path`."""
    return shutil.disk_usage(path).free - _KEPT_FREE


def no_room() -> ImageError:
    cure = "Free space there, or delete unused images."
    return ImageError("The download would leave less than 1 GiB on the image folder's disk.", cure=cure, code="NQR-IMG-115")


async def files(url: str, wanted: ImageManifest, target: str, progress: Download, way: Way) -> None:
    """Download every file into a folder beside `target`, then rename it. `progress.done` counts received bytes.

    Raises ImageError, also after _SECONDS: a slow server must not keep the place of other downloads.
    """
    try:
        await asyncio.wait_for(_files(url, wanted, target, progress, way), _SECONDS)
    except (TimeoutError, asyncio.TimeoutError) as error:
        raise ImageError(f"the download took longer than {_SECONDS / 3600:.0f} hours") from error


async def _files(url: str, wanted: ImageManifest, target: str, progress: Download, way: Way) -> None:
    try:
        staging = tempfile.mkdtemp(prefix=folder.STAGING_PREFIX, dir=os.path.dirname(target))
    except OSError as error:
        raise ImageError(f"{os.path.dirname(target)} is not writable: {error.strerror}") from error
    try:
        async with await outgoing.client(url, way) as http:
            for blob in folder.blobs(wanted):
                await _file(http, urljoin(url, blob.file), blob, staging, progress)
        with open(os.path.join(staging, MANIFEST), "w", encoding="utf-8") as file:  # noqa: ASYNC230 - a few hundred bytes
            file.write(wanted.model_dump_json(indent=2) + "\n")
        os.chmod(staging, PRIVATE)
        os.rename(staging, target)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ImageError(f"the download was interrupted: {error or type(error).__name__}") from error
    except OSError as error:
        raise ImageError(f"it could not be written: {error.strerror}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def append(file: BinaryIO, chunk: bytes) -> None:
    """Write a chunk, unless the disk would have less than 1 GiB free then. Raises ImageError NQR-IMG-115."""
    if room(file.name) < len(chunk):
        raise no_room()
    file.write(chunk)


async def _file(http: httpx.AsyncClient, url: str, blob: Blob, staging: str, progress: Download) -> None:
    digest, size = hashlib.sha256(), 0
    with open(os.path.join(staging, blob.file), "wb") as file:  # noqa: ASYNC230 - writes go through a thread below
        async with http.stream("GET", url, headers=_AS_IT_IS) as answer:
            if answer.status_code != 200:
                raise ImageError(f"{blob.file}: the server answers {answer.status_code}")  # viewers see it: no address, no login
            _check_coding(answer, blob.file)
            async for chunk in answer.aiter_raw(1024 * 1024):
                size += len(chunk)
                if size > blob.size:
                    raise ImageError(f"{blob.file} is larger than its {MANIFEST} says")
                digest.update(chunk)
                await asyncio.to_thread(append, file, chunk)
                progress.done += len(chunk)
    if size != blob.size or digest.hexdigest() != blob.sha256:
        raise ImageError(f"{blob.file} does not have the size and sha256 that its {MANIFEST} gives")
