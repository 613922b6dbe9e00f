"""The files of images: from this host's registry folder if they match their sha256, otherwise downloaded once.

Boot files (kernel, initrd) always go into the cache `FC_RUN_DIR/images-cache/<sha256>`: a VM must start again after its
image was rebuilt or removed. The root file system is copied into each VM. Only root reads it: it may be of a private image.
A downloaded one stays for the next VM of its image, while the host has one and the disk has room.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from nqrust.agent.disks.reserve import require, reserve
from nqrust.agent.errors import Failed, Refused
from nqrust.contract.agent import ImageRef
from nqrust.contract.images import IMAGE_NAME_PATTERN, Blob
from nqrust.host.errors import HostError, PathError, PathMissing
from nqrust.host.port import Host, Kind, Stat

Fetch = Callable[[str, Blob, str], None]
"""`fetch(image, blob, path)` downloads into `path`; raises Failed."""

_PART = ".part"
_ROOTS_ALONE = 0o600
_SHA256 = re.compile("[0-9a-f]{64}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")


@dataclass(frozen=True)
class Verified:
    """A file with the wanted content. `seen`: the file itself, where others than root can put another one at the path."""

    path: str
    seen: Stat | None = None


@dataclass
class _Work:
    """The work on one file. `holders`: threads at work on it, or waiting for `lock`. `coming`: bytes that `part` gets."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    holders: int = 0
    part: str = ""
    coming: int = 0


class Blobs:
    """`images`: those of the VMs of this host, or None if nobody knows them. A VM's record is written before its files are asked
    for."""

    def __init__(
        self, host: Host, image_root: str, cache_dir: str, fetch: Fetch, images: Callable[[], Iterable[ImageRef] | None] = tuple
    ) -> None:
        self._host, self._root, self._cache, self._fetch, self._images = host, image_root, cache_dir, fetch, images
        self._known: dict[tuple[str, tuple[int, int, int, int]], str] = {}  # what was hashed: path and identity
        self._work: dict[str, _Work] = {}
        self._forgetting = threading.Lock()
        self._guard = threading.Lock()
        """Of `_work`. Nobody copies, hashes or downloads a file meanwhile: that would hold up the other VMs of the host."""

    @contextlib.contextmanager
    def readable(self, image: str, blob: Blob) -> Iterator[Verified]:
        """Yield a verified file with the blob's content, which stays so long."""
        _check(image, blob)
        with self._working(blob.sha256):
            own = f"{self._root}/{image}/{blob.file}"
            found = self._fitting(own, blob)
            verified = Verified(own, found) if found else Verified(self._kept(image, blob, _ROOTS_ALONE))
            self.make_room(blob.size)
            yield verified

    def cached(self, image: str, blob: Blob) -> str:
        """Return a verified path with the blob's content that stays while a VM refers to it. VMMs can open it."""
        _check(image, blob)
        return self._kept(image, blob, 0o644)

    def here(self, image: str, blob: Blob) -> bool:
        """Return whether `cached` needs no manager for the blob."""
        paths = (f"{self._cache}/{blob.sha256}", f"{self._root}/{image}/{blob.file}")
        return any(self._fitting(path, blob) is not None for path in paths)

    def forget(self, wanted: int = 0) -> None:
        """Remove cached files that no VM of this host needs, and waits for none that others are at work on.

        Root file systems go, too, unless `wanted` bytes are free beside the reserve: their VMs have copies. A file that cannot be
        removed stays: a VM's delete ends here. Other names, such as lost+found, are left alone.
        """
        with self._forgetting:
            try:
                names = [name for name in self._host.listdir(self._cache) if _SHA256.search(name)]
            except PathMissing:
                return
            for name in self._unneeded(names, wanted):
                with contextlib.suppress(HostError):
                    self._drop(name, wanted)

    def make_room(self, wanted: int = 0) -> None:
        """Remove what `forget` removes if `wanted` bytes are not free beside the reserve."""
        if not self._has_room(wanted):
            self.forget(wanted)

    def _drop(self, name: str, wanted: int) -> None:
        found = _SHA256.search(name)  # a copy of a part has a name of its own
        with self._working(found[0] if found else name) as mine:
            if not mine.lock.acquire(blocking=False):
                return
            try:
                # Threads that come from here on wait for the lock, and find no file. The record of a VM may be written since.
                if mine.holders == 1 and self._unneeded([name], wanted):
                    self._host.remove(f"{self._cache}/{name}")
            finally:
                mine.lock.release()

    def _unneeded(self, names: Iterable[str], wanted: int) -> list[str]:
        room = self._has_room(wanted)
        if (images := self._images()) is None:
            return [] if room else [name for name in names if name.endswith(_PART) or self._is_root_file_system(name)]
        images = list(images)
        blobs = [blob for image in images for blob in image.boot_files]
        if room:
            blobs += [image.rootfs for image in images]
        needed = {blob.sha256 for blob in blobs}
        return [name for name in names if name not in needed]

    def _is_root_file_system(self, name: str) -> bool:
        """Whether no VMM may open it. A kernel that goes may be nowhere else."""
        found = self._host.stat(f"{self._cache}/{name}")
        return found is not None and found.mode == _ROOTS_ALONE

    def _has_room(self, wanted: int) -> bool:
        usage = self._host.disk_usage(self._cache)
        return usage.available - wanted >= reserve(usage)

    @contextlib.contextmanager
    def _working(self, sha256: str) -> Iterator[_Work]:
        with self._guard:
            mine = self._work.setdefault(sha256, _Work())
            mine.holders += 1
        try:
            yield mine
        finally:
            with self._guard:
                mine.holders -= 1
                if not mine.holders:
                    del self._work[sha256]

    def _kept(self, image: str, blob: Blob, mode: int) -> str:
        path = f"{self._cache}/{blob.sha256}"
        with self._working(blob.sha256) as mine, mine.lock:  # one download for all VMs that wait for it
            if self._fitting(path, blob):
                self._host.set_mode(path, mode=mode, owner="root", group="root")
                return path
            part = f"{path}{_PART}"
            self._host.remove(part)
            try:
                self._promise(mine, image, blob, part)
                self._make(image, blob, part)
            finally:
                mine.coming = 0
            self._host.set_mode(part, mode=mode, owner="root", group="root")
            self._host.rename(part, path)
            return path

    def _promise(self, mine: _Work, image: str, blob: Blob, part: str) -> None:
        """Raise NoSpace if the blob does not fit beside what comes of the other downloads."""
        with self._guard:
            if self._host.stat(self._cache) is None:
                self._host.mkdir(self._cache, mode=0o755)
            others = [(one.part, one.coming) for one in self._work.values() if one.coming]
            mine.part, mine.coming = part, blob.size
        coming = sum(max(0, size - (found.allocated if (found := self._host.stat(path)) else 0)) for path, size in others)
        self.make_room(blob.size + coming)
        require(self._host, self._cache, blob.size, f"{blob.file} of image {image}", besides=coming)

    def _make(self, image: str, blob: Blob, part: str) -> None:
        own = f"{self._root}/{image}/{blob.file}"
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
