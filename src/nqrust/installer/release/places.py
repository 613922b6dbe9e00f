"""The places of a published release: an address, and a folder of this host."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nqrust.host.port import Host, Kind
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.release.download import read_small

if TYPE_CHECKING:
    import httpx

_LONGEST_SIZE = 15  # digits
_LARGEST_TEXT = 1 << 20


@dataclass(frozen=True)
class Address:
    """Files below `base`, an address without a slash at its end."""

    client: httpx.Client
    base: str

    def read(self, name: str) -> bytes:
        return read_small(f"{self.base}/{name}", client=self.client)

    def size(self, name: str) -> int | None:
        import httpx

        try:
            answer = self.client.head(f"{self.base}/{name}", headers={"Accept-Encoding": "identity"})
        except (httpx.HTTPError, httpx.InvalidURL):  # a name in the list can be anything
            return None
        length = answer.headers.get("content-length", "")
        return int(length) if answer.status_code == 200 and length.isdecimal() and len(length) <= _LONGEST_SIZE else None


@dataclass(frozen=True)
class Folder:
    """Files in `base`, an absolute folder. Links are not followed: a release is copied as it is."""

    host: Host
    base: str

    def read(self, name: str) -> bytes:
        if self.size(name) is None:
            raise ReleaseError(
                "NQR-REL-021",
                f"The folder {self.base} has no file {name}.",
                f"Name the folder that holds the release, with its {name}.",
            )
        return self.host.read_bytes(posixpath.join(self.base, name), limit=_LARGEST_TEXT)

    def size(self, name: str) -> int | None:
        found = self.host.stat(posixpath.join(self.base, name)) if "/" not in name else None
        return found.size if found is not None and found.kind is Kind.file else None
