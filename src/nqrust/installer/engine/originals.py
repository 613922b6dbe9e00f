"""Originals: the content of every file that we replace, kept by its digest so that it can be put back byte for byte.

Each blob is written once, durable, 0600 below a 0700 folder; mode, owner and extended attributes are in the undo record.
"""

from __future__ import annotations

import hashlib
import posixpath

from nqrust.host.errors import PathMissing
from nqrust.host.port import Host
from nqrust.installer.engine.errors import StepFailed


class Originals:
    """Keeps and gives back file contents below `directory` of the host."""

    def __init__(self, host: Host, directory: str) -> None:
        self.host, self.directory = host, directory

    def store(self, data: bytes) -> str:
        """Keep what was found out; its digest."""
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
        """Raises StepFailed NQR-ENG-004 when the blob is gone or no longer what it was."""
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
