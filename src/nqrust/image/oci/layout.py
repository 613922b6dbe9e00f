"""Reads an OCI image layout (image-layout.md): a folder of blobs, each named by its digest.

Nothing in it is trusted. Every document is read only after its size and digest were checked, and links are not followed.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

from pydantic import BaseModel, ValidationError

from nqrust.image.errors import ImageError
from nqrust.image.oci.models import INDEX_TYPES, LARGEST_DOCUMENT, Config, Descriptor, Index, Manifest

M = TypeVar("M", bound=BaseModel)
_CHUNK = 2**20
LARGEST_PROCESS = 128 << 10
"""Bytes of what an image says about its process. It is in every list of images, in image.json, and in each request to an agent."""
_AGAIN = "Pull the image again. If that fails, ask the publisher of the image."


@dataclass(frozen=True)
class Contents:
    """`digest`: of the manifest for this platform."""

    digest: str
    manifest: Manifest
    config: Config


def read(folder: str, *, architecture: str = "amd64") -> Contents:
    """Return the one image of a layout. Raises ImageError NQR-IMG-032 (damaged), NQR-IMG-033 (another platform)."""
    top = _document(_small(os.path.join(folder, "index.json")), Index, "index.json")
    if len(top.manifests) != 1:
        raise damaged(f"its index names {len(top.manifests)} images")
    chosen = top.manifests[0]
    if chosen.mediaType in INDEX_TYPES:
        chosen = choose(_document(_blob_content(folder, chosen), Index, chosen.digest), architecture)
    manifest = _document(_blob_content(folder, chosen), Manifest, chosen.digest)
    config = _document(_blob_content(folder, manifest.config), Config, manifest.config.digest)
    if (config.os or "linux") != "linux" or (config.architecture or architecture) != architecture:
        raise _other_platform(architecture)
    if config.rootfs.diff_ids and len(config.rootfs.diff_ids) != len(manifest.layers):
        raise damaged("its configuration does not list its layers")
    try:
        process = config.process  # raises for values out of bounds
    except ValidationError as error:
        field = next(iter(error.errors()[0]["loc"]), "config")
        raise damaged(f"its configuration has an invalid “{field}”") from error
    if len(process.model_dump_json()) > LARGEST_PROCESS:
        raise damaged(f"its configuration has more than {LARGEST_PROCESS >> 10} KiB of arguments and variables")
    return Contents(chosen.digest, manifest, config)


def choose(index: Index, architecture: str = "amd64") -> Descriptor:
    """Return the image of an index for this platform. Raises ImageError NQR-IMG-033."""
    fitting = next((one for one in index.manifests if _fits(one, architecture)), None)
    if fitting is None:
        raise _other_platform(architecture)
    return fitting


def open_blob(folder: str, blob: Descriptor) -> BinaryIO:
    """Open a blob after its size and digest were checked. Raises ImageError NQR-IMG-032."""
    algorithm, _, value = blob.digest.partition(":")
    path = os.path.join(folder, "blobs", algorithm, value)
    try:
        file = _plain(path)
    except OSError as error:
        raise damaged(f"{blob.digest} is missing") from error
    digest = hashlib.sha256()
    if os.fstat(file.fileno()).st_size == blob.size:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != value:
        file.close()
        raise damaged(f"{blob.digest} has another size or digest")
    file.seek(0)
    return file


def damaged(why: str) -> ImageError:
    return ImageError("NQR-IMG-032", f"The container image is damaged: {why}.", _AGAIN)


def _other_platform(architecture: str) -> ImageError:
    return ImageError(
        "NQR-IMG-033",
        f"The container image is not for linux/{architecture}.",
        "Choose an image for this platform.",
    )


def _fits(one: Descriptor, architecture: str) -> bool:
    return one.platform is not None and (one.platform.os, one.platform.architecture) == ("linux", architecture)


def _plain(path: str) -> BinaryIO:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(22, "not a regular file")
    return os.fdopen(descriptor, "rb")


def _small(path: str) -> bytes:
    try:
        with _plain(path) as file:
            content = file.read(LARGEST_DOCUMENT + 1)
    except OSError as error:
        raise damaged(f"{os.path.basename(path)} cannot be read") from error
    if len(content) > LARGEST_DOCUMENT:
        raise damaged(f"{os.path.basename(path)} is larger than {LARGEST_DOCUMENT // 2**20} MiB")
    return content


def _blob_content(folder: str, blob: Descriptor) -> bytes:
    if blob.size > LARGEST_DOCUMENT:
        raise damaged(f"{blob.digest} is larger than {LARGEST_DOCUMENT // 2**20} MiB")
    with open_blob(folder, blob) as file:
        return file.read()


def _document(content: bytes, kind: type[M], name: str) -> M:
    parse: Callable[[bytes], M] = kind.model_validate_json
    try:
        return parse(content)
    except ValidationError as error:
        raise damaged(f"{name} is not a valid document") from error
