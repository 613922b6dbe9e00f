"""Downloads: streamed to the cache, resumed after an interruption, and accepted only when size and sha256 match.

The cache is content-addressed: a file's name is its expected digest, from any address.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass

import httpx

from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.engine.progress import Progress

_PIECE = 1 << 20
_ATTEMPTS = 4
_TIMEOUT = httpx.Timeout(30.0, connect=15.0)


@dataclass(frozen=True)
class Wanted:
    """A file on the network. `sha256` in hex; `size` in bytes, if known."""

    url: str
    sha256: str
    size: int | None = None

    @property
    def name(self) -> str:
        return httpx.URL(self.url).path.rpartition("/")[2] or "file"


def fetch(
    wanted: Wanted,
    folder: str,
    progress: Progress,
    *,
    client: httpx.Client | None = None,
    pause: float = 1.0,
    attempts: int = _ATTEMPTS,
) -> str:
    """Path of the file in the content-addressed `folder`, downloaded if it is not there yet.

    Proxies come from the environment (http_proxy, https_proxy, no_proxy). A Range request (RFC 9110 section 14) resumes a partial
    file; a wrong digest deletes it. `pause`: seconds before the second try, growing. Raises ReleaseError: NQR-REL-020 unreachable
    or interrupted, 021 the server answered with an error, 022 wrong size or digest, 023 disk.
    """
    target = f"{folder}/{wanted.sha256}"
    if os.path.exists(target) and (wanted.size is None or os.path.getsize(target) == wanted.size):
        return target
    partial = f"{target}.part"
    own = client is None
    client = client or httpx.Client(follow_redirects=True, timeout=_TIMEOUT)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        reason = ""
        for attempt in range(attempts):
            time.sleep(pause * attempt)
            try:
                _stream(client, wanted, partial, progress)
            except (httpx.TransportError, httpx.StreamError) as error:
                reason = str(error) or type(error).__name__
                continue
            _check(wanted, partial)
            os.replace(partial, target)
            return target
        raise ReleaseError(
            "NQR-REL-020",
            f"{wanted.url} could not be downloaded: {reason.rstrip('.')}.",
            "Check the network and the proxy (https_proxy), then run the same command again; it continues where it stopped.",
        )
    except OSError as error:
        raise ReleaseError(
            "NQR-REL-023",
            f"{wanted.name} could not be stored in {folder}: {error.strerror or error}.",
            "Free some space on that file system, then run the same command again.",
        ) from error
    finally:
        if own:
            client.close()


def _stream(client: httpx.Client, wanted: Wanted, partial: str, progress: Progress) -> None:
    have = os.path.getsize(partial) if os.path.exists(partial) else 0
    if wanted.size is not None and have >= wanted.size:
        if have == wanted.size:
            return
        have = 0
    # No content coding: size and resume position must count the bytes of the file.
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with client.stream("GET", wanted.url, headers=headers) as response:
        if response.status_code == 416:  # the partial file is as long as the whole, or longer: begin again
            os.truncate(partial, 0)
            raise httpx.ReadError("the server refused to resume")
        if response.status_code >= 500:
            raise httpx.ReadError(f"the server answered {response.status_code}")
        if response.status_code not in (200, 206):
            raise ReleaseError(
                "NQR-REL-021",
                f"{wanted.url} cannot be had: the server answered {response.status_code}.",
                "Check the name of the release and its version, and that this host may read it.",
            )
        if response.status_code == 200:
            have = 0
        length = response.headers.get("content-length")
        total = wanted.size or (have + int(length) if length and length.isdigit() else None)
        with open(partial, "ab" if have else "wb") as file:
            for piece in response.iter_raw():  # write at once, to keep the data from before an interruption
                file.write(piece)
                have += len(piece)
                if wanted.size is not None and have > wanted.size:
                    break
                progress(wanted.name, have / total if total else None)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and have < total:
        raise httpx.ReadError(f"cut off after {have} of {total} bytes")


def _check(wanted: Wanted, partial: str) -> None:
    size = os.path.getsize(partial)
    digest = file_sha256(partial)
    if digest == wanted.sha256 and wanted.size in (None, size):
        return
    os.remove(partial)
    expected = f"{wanted.sha256[:16]}…" + (f", {wanted.size} bytes" if wanted.size is not None else "")
    raise ReleaseError(
        "NQR-REL-022",
        f"{wanted.url} is not what the release lists: sha256 {digest[:16]}…, {size} bytes; expected {expected}.",
        "Check for a proxy that rewrites downloads; if there is none, the release itself may have been tampered with.",
    )


def read_small(url: str, *, limit: int = 1 << 20, client: httpx.Client | None = None) -> bytes:
    """Return a small text (a manifest, a list of checksums) of at most `limit` bytes. Raises ReleaseError like `fetch`."""
    own = client is None
    client = client or httpx.Client(follow_redirects=True, timeout=_TIMEOUT)
    try:
        with client.stream("GET", url) as response:
            if response.status_code != 200:
                raise ReleaseError(
                    "NQR-REL-021",
                    f"{url} cannot be had: the server answered {response.status_code}.",
                    "Check the name of the release and its version, and that this host may read it.",
                )
            body = b""
            for piece in response.iter_bytes():
                body += piece
                if len(body) > limit:
                    raise ReleaseError(
                        "NQR-REL-022",
                        f"{url} is larger than {limit} bytes, the limit for this file.",
                        "Check the address of the release.",
                    )
            return body
    except httpx.HTTPError as error:
        raise ReleaseError(
            "NQR-REL-020",
            f"{url} could not be downloaded: {str(error).rstrip('.') or type(error).__name__}.",
            "Check the network and the proxy (https_proxy), then run the same command again.",
        ) from error
    finally:
        if own:
            client.close()


def file_sha256(path: str) -> str:
    """Return the hex digest of a file, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(_PIECE), b""):
            digest.update(piece)
    return digest.hexdigest()
