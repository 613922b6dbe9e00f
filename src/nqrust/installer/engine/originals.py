"""Originals: the content of every replaced file, stored by digest, so that a revert restores it byte for byte.

Each blob is written once and synced, with mode 0600 in a folder with mode 0700. The undo record holds mode, owner and
extended attributes.
"""

from __future__ import annotations

import hashlib
import posixpath

from nqrust.host.errors import PathMissing
from nqrust.host.port import Host
from nqrust.installer.engine.errors import StepFailed


class Originals:
    """Stores and returns file contents below `directory` of the host."""

    def __init__(self, host: Host, directory: str) -> None:
        self.host, self.directory = host, directory

    def store(self, data: bytes) -> str:
        """Store the data and return its digest."""
        digest = hashlib.sha256(data).hexdigest()
        self.keep(digest, data)
        return digest

    def keep(self, digest: str, data: bytes) -> None:
        path = self.blob(digest)
        if self.host.exists(path):
            return
        self._ensure(self.directory)
        self.host.write_file(path, data, mode=0o600)

    def blob(self, digest: str) -> str:
        return posixpath.join(self.directory, digest)

    def read(self, digest: str) -> bytes:
        """Return the content. Raises StepFailed NQR-ENG-004 if the blob is missing or damaged."""
        try:
            data = self.host.read_bytes(self.blob(digest))
            if self.host.sha256(self.blob(digest)) == digest:
                return data
        except PathMissing:
            pass
        raise StepFailed(
            "NQR-ENG-004",
            f"The kept original {digest[:12]} is missing or damaged.",
            f"Put the file back below {self.directory} from a backup, or restore the original by hand.",
        )

    def _ensure(self, directory: str) -> None:
        if self.host.exists(directory):
            return
        parent = posixpath.dirname(directory)
        if parent not in ("", "/"):
            self._ensure(parent)
        self.host.mkdir(directory, mode=0o700)
