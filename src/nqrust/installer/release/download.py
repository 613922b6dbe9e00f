"""Downloads: streamed to the cache, resumed after an interruption, and accepted only when size and sha256 match.

The cache is content-addressed: a file's name is its expected digest, from any address. Beside a partial file stands the mark
of the representation that it is part of (ETag or Last-Modified), so that a changed file is not continued (RFC 9110, 13.1.5).
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.engine.progress import Progress
from nqrust.installer.release.meter import Meter
from nqrust.installer.release.retrying import BUSY, Again, retry_after, retrying

if TYPE_CHECKING:
    import httpx

_PIECE = 1 << 20
_ATTEMPTS = 5
_LARGEST = 2 << 30  # bytes of a file whose size nobody has stated
PATIENCE = 60.0  # seconds for a small file


@dataclass(frozen=True)
class Wanted:
    """A file on the network. `sha256` in hex; `size` in bytes, if known. `mirrors`: other addresses of the same file."""

    url: str
    sha256: str
    size: int | None = None
    mirrors: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        import httpx

        return httpx.URL(self.url).path.rpartition("/")[2] or "file"


def _client() -> httpx.Client:
    import httpx  # only a download needs it, and it takes its time to load

    from nqrust.tls.patience import patient

    return patient(httpx.Client(follow_redirects=True, timeout=httpx.Timeout(30.0, connect=15.0)))


def fetch(
    wanted: Wanted,
    folder: str,
    progress: Progress,
    *,
    client: httpx.Client | None = None,
    pause: float = 1.0,
    attempts: int = _ATTEMPTS,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Path of the file in the content-addressed `folder`, downloaded if it is not there yet.

    `client`: one that is `patient`, as nqr's are; it ends a download that only drips. Proxies come from the environment
    (http_proxy, https_proxy, no_proxy). A Range request (RFC 9110 section 14) resumes a partial file; a wrong digest deletes it.
    After the last attempt at an address, its mirrors are asked in order. `pause`: seconds before the second attempt, growing; a
    server's Retry-After counts instead. Raises ReleaseError of the first address: NQR-REL-020 unreachable or interrupted, 021 the
    server answered with an error, 022 wrong size or digest, 023 disk.
    """
    target = f"{folder}/{wanted.sha256}"
    if os.path.exists(target) and (wanted.size is None or os.path.getsize(target) == wanted.size):
        return target
    own = client is None
    client = client or _client()
    failure: ReleaseError | None = None
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        for url in (wanted.url, *wanted.mirrors):
            attempt = _Attempt(client, wanted, url, f"{target}.part", progress)
            try:
                retrying(attempts, pause, sleep)(attempt)
            except Again as error:
                failure = failure or _unreachable(url, str(error))
            except ReleaseError as error:
                failure = failure or error
            else:
                os.replace(attempt.partial, target)
                return target
        assert failure is not None
        raise failure
    except OSError as error:
        raise ReleaseError(
            "NQR-REL-023",
            f"{wanted.name} could not be stored in {folder}: {error.strerror or error}.",
            "Free some space on that file system, then run the same command again.",
        ) from error
    finally:
        if own:
            client.close()


@dataclass
class _Attempt:
    """One attempt to complete `partial` from `url`. Raises Again where another attempt may succeed, else ReleaseError."""

    client: httpx.Client
    wanted: Wanted
    url: str
    partial: str
    progress: Progress

    def __call__(self) -> None:
        import httpx

        have = os.path.getsize(self.partial) if os.path.exists(self.partial) else 0
        if self.wanted.size is not None and have > self.wanted.size:
            have = 0
        resumed = have > 0
        try:
            digest, have = self._stream(have)
        except httpx.TooManyRedirects as error:
            raise _no(self.url, "the server redirects in a circle") from error
        except (httpx.TransportError, httpx.StreamError) as error:
            raise Again(str(error) or type(error).__name__) from error
        if digest == self.wanted.sha256 and self.wanted.size in (None, have):
            self._forget(only_mark=True)
            return
        self._forget()
        if resumed:  # a part of another file may have been continued
            raise Again("the file is not the one that was begun")
        raise _differs(self.wanted, self.url, f"sha256 {digest[:16]}…, {have} bytes")

    def _stream(self, have: int) -> tuple[str, int]:
        """Download the rest. Return digest and size of the whole."""
        if have and have == self.wanted.size:
            return file_sha256(self.partial), have
        # No content coding: size and resume position must count the bytes of the file.
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if mark := self._mark():
                headers["If-Range"] = mark
        with self.client.stream("GET", self.url, headers=headers) as response:
            have = self._begins(response, have)
            total = self._total(response, have)
            return self._write(response, have, total)

    def _begins(self, response: httpx.Response, have: int) -> int:
        """Return the position at which the body of this answer begins."""
        status = response.status_code
        if status in BUSY:
            raise Again(f"the server answered {status}", retry_after(response.headers, time.time()))
        if status == 416:  # the partial file is as long as the whole, or longer: begin again
            self._forget()
            raise Again("the server refused to resume")
        if status not in (200, 206):
            raise _no(self.url, f"the server answered {status}")
        if status == 206:
            match = re.fullmatch(r"bytes (\d{1,15})-\d{1,15}/(\d{1,15}|\*)", response.headers.get("content-range", ""))
            if match is None or int(match[1]) != have or (match[2] != "*" and self.wanted.size not in (None, int(match[2]))):
                self._forget()
                raise Again("the server resumed at another place than it was asked")
            return have
        if response.headers.get("content-type", "").startswith("text/html") and not self.wanted.name.endswith(".html"):
            raise _differs(self.wanted, self.url, "a web page")
        self._forget()
        etag, modified = response.headers.get("etag", ""), response.headers.get("last-modified", "")
        mark = etag if etag and not etag.startswith("W/") else modified
        if mark and mark.isascii():  # RFC 9110 allows other bytes in an ETag; then the file is not continued
            with open(f"{self.partial}.mark", "w", encoding="latin-1") as file:
                file.write(mark)
        return 0

    def _total(self, response: httpx.Response, have: int) -> int | None:
        """Return the size of the whole, as far as it is known. Refuse another size before any byte of it is stored."""
        length = response.headers.get("content-length", "")
        if not length.isdecimal() or len(length) > 15:
            return self.wanted.size
        total = have + int(length)
        if total != (self.wanted.size or total) or total > max(_LARGEST, self.wanted.size or 0):
            self._forget()
            raise _differs(self.wanted, self.url, f"{total} bytes")
        return total

    def _write(self, response: httpx.Response, have: int, total: int | None) -> tuple[str, int]:
        digest = _hashed(self.partial, have)
        meter = Meter(self.wanted.name, total, self.progress)
        most = total if total is not None else _LARGEST
        with open(self.partial, "ab" if have else "wb") as file:
            for piece in response.iter_raw():  # write at once, to keep the data from before an interruption
                have += len(piece)
                if have > most:
                    file.close()
                    self._forget()
                    raise _differs(self.wanted, self.url, f"more than {most} bytes")
                file.write(piece)
                digest.update(piece)
                meter.at(have)
            file.flush()
            os.fsync(file.fileno())
        if total is not None and have < total:
            raise Again(f"cut off after {have} of {total} bytes")
        return digest.hexdigest(), have

    def _mark(self) -> str:
        try:
            with open(f"{self.partial}.mark", encoding="latin-1") as file:
                return file.read(1000)
        except FileNotFoundError:
            return ""

    def _forget(self, *, only_mark: bool = False) -> None:
        for path in (f"{self.partial}.mark", *(() if only_mark else (self.partial,))):
            if os.path.exists(path):
                os.remove(path)


def _hashed(path: str, have: int) -> hashlib._Hash:
    """Return the running digest of the first `have` bytes of a file."""
    digest = hashlib.sha256()
    if have:
        with open(path, "rb") as file:
            for piece in iter(lambda: file.read(_PIECE), b""):
                digest.update(piece)
    return digest


def _unreachable(url: str, why: str) -> ReleaseError:
    return ReleaseError(
        "NQR-REL-020",
        f"{url} could not be downloaded: {why.rstrip('.')}.",
        "Check the network and the proxy (https_proxy), then run the same command again; it continues where it stopped.",
    )


def _no(url: str, why: str) -> ReleaseError:
    return ReleaseError(
        "NQR-REL-021",
        f"{url} could not be downloaded: {why}.",
        "Check the name of the release and its version, and that this host may read it.",
    )


def _differs(wanted: Wanted, url: str, found: str) -> ReleaseError:
    expected = f"sha256 {wanted.sha256[:16]}…" + (f", {wanted.size} bytes" if wanted.size is not None else "")
    return ReleaseError(
        "NQR-REL-022",
        f"{url} is not what the release lists: {found}; expected {expected}.",
        "Check for a proxy that rewrites downloads; if there is none, the release itself may have been tampered with.",
    )


def read_small(url: str, *, limit: int = 1 << 20, client: httpx.Client | None = None) -> bytes:
    """Return a small text (a manifest, a list of checksums) of at most `limit` bytes. Raises ReleaseError like `fetch`."""
    import httpx

    own = client is None
    client = client or _client()
    try:
        with client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response:
            if response.status_code != 200:
                raise ReleaseError(
                    "NQR-REL-021",
                    f"{url} could not be downloaded: the server answered {response.status_code}.",
                    "Check the name of the release and its version, and that this host may read it.",
                )
            if response.headers.get("content-encoding", "identity") != "identity":
                raise ReleaseError(  # a few bytes could become any number
                    "NQR-REL-022", f"{url} came compressed, which nobody asked for.", "Check the server, or name a mirror."
                )
            body, until = b"", time.monotonic() + PATIENCE
            for piece in response.iter_raw():
                body += piece
                if time.monotonic() > until:
                    raise _unreachable(url, f"the server sent {len(body)} bytes in {PATIENCE:.0f} s")
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
