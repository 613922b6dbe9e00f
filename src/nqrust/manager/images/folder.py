"""An image's folder: reads its manifest and checks its files. Read-only; never follows a link out of the folder."""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import stat
import tempfile
from typing import Any

from pydantic import ValidationError

from nqrust.contract.images import MANIFEST, ROOTFS_TYPES, Blob, ImageManifest
from nqrust.contract.text import first_fault
from nqrust.host.facts import superblock
from nqrust.manager.errors import ImageError

_MANIFEST_LIMIT = 256 * 1024
_CHUNK = 1024 * 1024
STAGING_PREFIX = ".fetch-"


def blobs(manifest: ImageManifest) -> list[Blob]:
    """Return every file in the manifest."""
    named = (manifest.rootfs, manifest.kernel, manifest.kernel_elf, manifest.initrd)
    return [blob for blob in named if blob is not None]


def parse_manifest(content: bytes, where: str) -> ImageManifest:
    """Return the manifest, with file names that cannot leave the folder. Raises ImageError."""
    try:
        manifest = ImageManifest.model_validate_json(content)
    except ValidationError as error:
        field, said = first_fault(error.errors())
        raise ImageError(f"{where} is not a valid {MANIFEST}: {field or 'content'}: {said}.") from error
    for blob in blobs(manifest):
        if not blob.file or blob.file != os.path.basename(blob.file) or blob.file in (".", "..") or "\0" in blob.file:
            raise ImageError(f"{where} names a file outside its folder: {blob.file!r}.")
    return manifest


def read_manifest(folder: str) -> ImageManifest:
    """Read `image.json` of a folder. Raises ImageError."""
    path = os.path.join(folder, MANIFEST)
    try:
        with open_inside(folder, MANIFEST) as file:
            content = file.read(_MANIFEST_LIMIT + 1)
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}.") from error
    if len(content) > _MANIFEST_LIMIT:
        raise ImageError(f"{path} is larger than {_MANIFEST_LIMIT // 1024} KiB.")
    return parse_manifest(content, path)


def open_inside(folder: str, name: str) -> Any:
    """Open a regular file of `folder` for reading, refusing links (O_NOFOLLOW, open(2)). Raises OSError."""
    descriptor = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(22, "not a regular file")
    return os.fdopen(descriptor, "rb")


def is_plain_file(path: str) -> bool:
    """Return whether a regular file, not a link, is at `path`."""
    return os.path.isfile(path) and not os.path.islink(path)


def check(folder: str, manifest: ImageManifest, checked: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """Return (state, fault, facts to remember). Sizes are always compared.

    A sha256 is computed only if a file's size, mtime or expected hash differs from `checked`: reading gigabytes at every start
    would be slow.
    """
    remembered: dict[str, Any] = {}
    for blob in blobs(manifest):
        try:
            with open_inside(folder, blob.file) as file:
                status = os.fstat(file.fileno())
                if status.st_size != blob.size:
                    return (
                        "corrupt",
                        f"{blob.file} has {status.st_size} bytes instead of {blob.size}",
                        remembered,
                    )
                mark = [status.st_size, status.st_mtime_ns, blob.sha256]
                if blob is manifest.rootfs and (wrong := _wrong_type(manifest, file)):
                    return "corrupt", wrong, remembered
                if checked.get(blob.file) != mark and _sha256(file) != blob.sha256:
                    return (
                        "corrupt",
                        f"{blob.file} does not have the sha256 that {MANIFEST} gives",
                        remembered,
                    )
                remembered[blob.file] = mark
        except FileNotFoundError:
            return "missing", f"{blob.file} is not there", remembered
        except OSError as error:
            return "corrupt", f"{blob.file} cannot be read: {error.strerror}", remembered
    return "ready", "", remembered


def _wrong_type(manifest: ImageManifest, file: Any) -> str:
    """Return why no VM can use this root file system, from the types in manifest and superblock, or "" if one can.

    The agent's checkers handle unrecognized content.
    """
    told = manifest.rootfs_type
    if told not in ROOTFS_TYPES:
        return f"{MANIFEST} says its file system is {told}; VMs can have {', '.join(ROOTFS_TYPES)}"
    found = superblock.parse(os.pread(file.fileno(), superblock.HEAD, 0)).type
    if found and not told.startswith(found):
        return f"{manifest.rootfs.file} holds a file system of type {found}, and {MANIFEST} says {told}"
    return ""


def _sha256(file: Any) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def folders(root: str) -> list[str]:
    """Return folders directly below `root` with an image.json; empty if there is no such root."""
    try:
        with os.scandir(root) as entries:
            found = [e.path for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")]
    except OSError:
        return []
    return sorted(path for path in found if os.path.isfile(os.path.join(path, MANIFEST)))


def set_aside(path: str) -> str:
    """Give an image's folder a name that no scan reads and that `remove_staging` removes. Return it, or "" if it stays: it is not
    there, or another user's in a folder with the sticky bit."""
    try:
        aside = tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=os.path.dirname(path))
    except OSError:
        return ""
    try:
        os.rename(path, aside)
    except OSError:
        os.rmdir(aside)
        return ""
    return aside


def remove_staging(root: str) -> None:
    """Remove the remains of failed downloads and interrupted deletions below `root`."""
    for path in glob.glob(os.path.join(glob.escape(root), STAGING_PREFIX + "*")):
        shutil.rmtree(path, ignore_errors=True)


def resolve_allowed(path: str, roots: list[str]) -> str:
    """Return `path` with every link resolved, if that is below one of `roots`. Raises ImageError."""
    if not os.path.isabs(path) or "\0" in path:
        raise ImageError(
            f"{path!r} is not an absolute path.", cure="Give the absolute path of the image's folder.", code="NQR-IMG-111"
        )
    real = os.path.realpath(path)
    for root in roots:
        if real.startswith(os.path.realpath(root).rstrip("/") + "/"):
            return real
    raise ImageError(
        f"{path} is not below an allowed folder.",
        cure=f"Put the image below {' or '.join(roots)}.",
        code="NQR-IMG-111",
    )
