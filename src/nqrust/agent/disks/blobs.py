"""The files of images: from this host's registry folder if they match their sha256, otherwise downloaded once.

Boot files (kernel, initrd) always go into the cache `FC_RUN_DIR/images-cache/<sha256>`: a VM must start again after its
image was rebuilt or removed. The root file system is copied into each VM. Only root reads it: it may be of a private image.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass

from nqrust.agent.disks.reserve import require
from nqrust.agent.errors import Failed, Refused
from nqrust.contract.images import IMAGE_NAME_PATTERN, Blob
from nqrust.host.errors import HostError, PathError, PathMissing
from nqrust.host.port import Host, Kind, Stat

Fetch = Callable[[str, Blob, str], None]
"""`fetch(image, blob, path)` downloads into `path`; raises Failed."""

_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")


@dataclass(frozen=True)
class Verified:
    """A file with the wanted content. `seen`: the file itself, where others than root can put another one at the path."""

    path: str
    seen: Stat | None = None


class Blobs:
    def __init__(self, host: Host, image_root: str, cache_dir: str, fetch: Fetch) -> None:
        self._host, self._root, self._cache, self._fetch = host, image_root, cache_dir, fetch
        self._known: dict[tuple[str, tuple[int, int, int, int]], str] = {}  # what was hashed: path and identity
        self._lock = threading.Lock()  # one download of a blob for all VMs that wait for it

    def readable(self, image: str, blob: Blob) -> Verified:
        """Return a verified file with the blob's content, which is copied at once."""
        _check(image, blob)
        own = f"{self._root}/{image}/{blob.file}"
        found = self._fitting(own, blob)
        return Verified(own, found) if found else Verified(self._kept(image, blob, 0o600))

    def cached(self, image: str, blob: Blob) -> str:
        """Return a verified path with the blob's content that stays while a VM refers to it. VMMs can open it."""
        _check(image, blob)
        return self._kept(image, blob, 0o644)

    def here(self, image: str, blob: Blob) -> bool:
        """Return whether `cached` needs no manager for the blob."""
        paths = (f"{self._cache}/{blob.sha256}", f"{self._root}/{image}/{blob.file}")
        return any(self._fitting(path, blob) is not None for path in paths)

    def _kept(self, image: str, blob: Blob, mode: int) -> str:
        path = f"{self._cache}/{blob.sha256}"
        with self._lock:
            if self._fitting(path, blob):
                self._host.set_mode(path, mode=mode, owner="root", group="root")
                return path
            if self._host.stat(self._cache) is None:
                self._host.mkdir(self._cache, mode=0o755)
            part = f"{path}.part"
            own = f"{self._root}/{image}/{blob.file}"
            self._host.remove(part)
            require(self._host, self._cache, blob.size, f"{blob.file} of image {image}")
            if found := self._fitting(own, blob):
                # Others than root can write to the registry's folder. Nobody may read the target until its digest matches.
                with contextlib.suppress(PathError):  # another file by now
                    self._host.copy_file(own, part, mode=0o600, seen=found)
            else:
                self._fetch(image, blob, part)
            if not self._fitting(part, blob):
                self._host.remove(part)
                raise Failed(
                    "NQR-IMG-101",
                    f"{blob.file} of image {image} does not match its SHA-256.",
                    "Run `nqr image ls` and build or add the image again.",
                    status=502,
                )
            self._host.set_mode(part, mode=mode, owner="root", group="root")
            self._host.rename(part, path)
            return path

    def forget(self, keep: Callable[[], set[str] | None]) -> None:
        """Remove cached blobs that are not in `keep()`, the sha256s that VMs of this host refer to. None: nobody knows them.

        `keep()` runs while nothing can be cached: a VM's record is written before its kernel is.
        """
        with self._lock:
            kept = keep()
            if kept is None:
                return
            try:
                names = self._host.listdir(self._cache)
            except PathMissing:
                return
            for name in names:
                if name not in kept:
                    self._host.remove(f"{self._cache}/{name}")

    def _fitting(self, path: str, blob: Blob) -> Stat | None:
        """Return what was seen of the file if it has the blob's content."""
        try:
            found = self._host.stat(path)
            if found is None or found.kind is not Kind.file or found.size != blob.size:
                return None
            key = (path, found.identity)
            if key not in self._known:
                self._known[key] = self._host.sha256(path, seen=found)
            return found if self._known[key] == blob.sha256 else None
        except HostError:
            return None


def _check(image: str, blob: Blob) -> None:
    if not re.fullmatch(IMAGE_NAME_PATTERN, image) or not _FILE.fullmatch(blob.file):
        raise Refused("NQR-API-703", "The image's name or one of its files is not a plain name.", "Correct the image.")
