"""Originals: the content of every file that we replace, kept by its digest so that it can be put back byte for byte.

Each blob is written once, durable, 0600 below a 0700 folder; mode, owner and extended attributes are in the undo record.
"""

from __future__ import annotations

import base64
import hashlib
import posixpath
from collections.abc import Sequence
from typing import Any

from nqrust.host.errors import PathMissing
from nqrust.host.port import Host, Kind
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.verbs.packages import traces
from nqrust.installer.verbs.packages import undo as packages


class Originals:
    """Keeps and gives back file contents below `directory` of the host."""

    def __init__(self, host: Host, directory: str) -> None:
        self.host, self.directory = host, directory

    def capture(self, undo: Undo) -> Undo:
        """A copy of the record with `prior` filled in where its verb is `file`, and `survey` where package scripts are
        about to run; anything else comes back as it is."""
        if undo.verb == "packages" and "survey" not in undo.args:
            return Undo(undo.verb, {**undo.args, "survey": self._store(traces.survey(self.host))}, undo.retain)
        if undo.verb != "file" or "prior" in undo.args:
            return undo
        return Undo(undo.verb, {**undo.args, "prior": self._prior(str(undo.args["path"]))}, undo.retain)

    def conclude(self, undos: Sequence[Undo]) -> dict[str, str]:
        """For the `done` record: what came of the step that its undo could not say before. Index of the undo record ->
        digest of what package scripts have made."""
        return {
            str(index): self._store(packages.survey_made(self.host, undo.args, traces.unpack(self.read(undo.args["survey"]))))
            for index, undo in enumerate(undos)
            if undo.verb == "packages" and "survey" in undo.args and "made" not in undo.args
        }

    def _store(self, found: dict[str, Any]) -> str:
        data = traces.pack(found)
        digest = hashlib.sha256(data).hexdigest()
        self.keep(digest, data)
        return digest

    def _prior(self, path: str) -> dict[str, Any] | None:
        stat = self.host.stat(path)
        if stat is None:
            return None
        if stat.kind is Kind.symlink:
            return {"kind": "symlink", "target": self.host.readlink(path)}
        if stat.kind is not Kind.file:
            raise StepFailed(
                "NQR-ENG-003",
                f"{path} is a {stat.kind.value}, so a file cannot be put there.",
                f"Move {path} away and run the same command again.",
            )
        data = self.host.read_bytes(path)
        digest = self.host.sha256(path)
        self.keep(digest, data)
        return {
            "kind": "file",
            "sha256": digest,
            "mode": stat.mode,
            "owner": stat.owner,
            "group": stat.group,
            "xattrs": {k: base64.b64encode(v).decode() for k, v in self.host.xattrs(path).items()},
        }

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
