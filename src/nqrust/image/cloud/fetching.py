"""Gets a disk image: from a file of this host, or from a URL whose digest is known."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence

import httpx

from nqrust.host.port import Host, Kind, Stat, command
from nqrust.host.way import way
from nqrust.image.cloud import disk
from nqrust.image.errors import ImageError
from nqrust.image.progress import Progress
from nqrust.tls.patience import patient

ALGORITHMS = {64: "sha256", 128: "sha512"}
"""Hex digits of a digest -> its algorithm."""
_TIMEOUT = httpx.Timeout(60.0, connect=15.0)
_SMALL = 1 << 20
_LONGEST = 1800.0  # seconds for the checksum of a large file
_PIECE = 1 << 20
_LOOK = 32 << 20
"""Bytes between two looks at the free space."""


def from_file(host: Host, path: str, digest: str | None, tell: Progress) -> Callable[[str], None]:
    """Return the `source` of importing.build for a file. Raises ImageError NQR-IMG-058, -059."""

    def copy(target: str) -> None:
        tell(f"copying {path}", 0.0)
        *folders, (place, stat) = way(host, os.path.abspath(path))
        if host.stat(path) is None or stat.kind is not Kind.file:
            raise ImageError("NQR-IMG-058", f"There is no file {path}.", "Check the path. It is one of this host.")
        others = {one.owner for _, one in folders} - {"root", stat.owner}
        if others and digest is None and not _all_read(stat, [one for _, one in folders], others):
            raise ImageError(
                "NQR-IMG-058",
                f"{path} leads to a file of {stat.owner} that others cannot read, through a folder or link of {min(others)}.",
                "If this is the image that you mean, name its checksum (--checksum).",
            )
        host.copy_file(place, target, mode=0o600, largest=disk.LARGEST, seen=stat)
        if digest is not None:
            told = host.run(command(f"{ALGORITHMS[len(digest)]}sum", "--", target, timeout=_LONGEST)).stdout
            _compare(path, told.split()[0].lstrip("\\"), digest)

    return copy


def _all_read(file: Stat, folders: Sequence[Stat], users: set[str]) -> bool:
    """Return whether these users may read a file. Each may pass a folder of its own, which it can open to itself at any time."""
    return bool(file.mode & 0o004) and all(
        one.mode & 0o001 or users <= {one.owner} for one in folders if one.kind is Kind.directory
    )


def from_url(host: Host, url: str, digest: str, tell: Progress) -> Callable[[str], None]:
    """Return the `source` of importing.build for a URL. Proxies come from the environment. Raises ImageError NQR-IMG-058, -059, -091."""

    def download(target: str) -> None:
        host.write_file(target, _with_room(host, os.path.dirname(target), url, _checked(url, digest, tell)), mode=0o600)

    return download


def text(url: str) -> str:
    """Return a small text, such as a list of checksums. Nothing else proves it, so no redirect may leave HTTPS. Raises ImageError
    NQR-IMG-058."""
    data = b""
    for piece in _pieces(url, lambda done, total: None, leaves=not url.lower().startswith("https://")):
        data += piece
        if len(data) > _SMALL:
            raise ImageError("NQR-IMG-058", f"{url} is longer than {_SMALL >> 10} KiB.", "Check the address.")
    return data.decode("utf-8", "replace")


def _checked(url: str, digest: str, tell: Progress) -> Iterator[bytes]:
    known, done = hashlib.new(ALGORITHMS[len(digest)]), 0

    def progress(done: int, total: int) -> None:
        tell(f"downloading {done >> 20} of {total >> 20} MiB" if total else f"downloading {done >> 20} MiB", None)

    for piece in _pieces(url, progress):
        known.update(piece)
        done += len(piece)
        if done > disk.LARGEST:
            raise ImageError("NQR-IMG-058", f"{url} is longer than {disk.LARGEST >> 30} GiB.", "Check the address.")
        yield piece
    _compare(url, known.hexdigest(), digest)


def _with_room(host: Host, folder: str, url: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the pieces as long as the disk keeps its reserve: the digest of what came is known at the end only, and a server sends
    what it likes."""
    since = _LOOK
    for piece in pieces:
        since += len(piece)
        if since >= _LOOK:
            since = 0
            if host.disk_usage(folder).available - _LOOK < disk.KEPT_FREE:
                raise disk.no_room(f"{url} is larger than the room on the image folder's disk")
        yield piece


def _compare(what: str, found: str, wanted: str) -> None:
    if found != wanted.lower():
        raise ImageError(
            "NQR-IMG-059",
            f"{what} does not have the expected checksum.",
            "Compare the checksum with the publisher's, then download the image again.",
        )


def _pieces(url: str, progress: Callable[[int, int], None], leaves: bool = True) -> Iterator[bytes]:
    """`leaves`: a redirect may lead to plain HTTP."""
    try:
        with (
            patient(httpx.Client(timeout=_TIMEOUT, follow_redirects=True, max_redirects=5)) as http,
            http.stream("GET", url, headers={"Accept-Encoding": "identity"}) as answer,
        ):
            if not leaves and any(hop.url.scheme != "https" for hop in (*answer.history, answer)):
                raise ImageError(
                    "NQR-IMG-058",
                    f"{url} leads to an address without TLS, {answer.url}.",
                    "Name an image with --checksum, or write a catalogue with another address.",
                )
            if answer.status_code != 200:
                raise ImageError("NQR-IMG-058", f"{url} answers {answer.status_code}.", "Check the address and its server.")
            total, told = int(answer.headers.get("content-length") or 0), 0
            for piece in answer.iter_raw(_PIECE):
                yield piece
                if answer.num_bytes_downloaded - told >= 32 << 20:
                    told = answer.num_bytes_downloaded
                    progress(told, total)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise ImageError(
            "NQR-IMG-058",
            f"{url} cannot be fetched: {error or type(error).__name__}.",
            "Check the address, the network and the proxy of this host; or download the file elsewhere and give its path.",
        ) from error
