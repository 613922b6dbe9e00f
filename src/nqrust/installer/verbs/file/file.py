"""A file with given content, mode and owner. The step replaces it atomically; the engine keeps the original."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass, field
from typing import ClassVar

from nqrust.host.port import Host, Kind
from nqrust.host.secret import Secret
from nqrust.installer.engine.step import (
    Inspection,
    Needed,
    Origin,
    Prepared,
    Satisfied,
    verify_by_inspection,
)
from nqrust.installer.engine.undo_record import Retain
from nqrust.installer.verbs.file.owned import access_diff, kept_xattrs, not_a, require_parent, same_access
from nqrust.installer.verbs.file.undo import undo_file, undo_mode

DIFF_LINES = 400
"""Maximum lines of a diff; the step still writes the whole file."""


@dataclass(frozen=True)
class File:
    """A file. `content`: text is written as UTF-8; a Secret (or `secret=True`) never shows in a diff.

    `keep_existing`: existing content stays, and the step corrects only mode and owners. `ours_may_change`: services rewrite
    it, so uninstall does not treat other content as the user's edit. `what`: for `describe`.
    """

    kind: ClassVar[str] = "file"

    path: str
    content: bytes | str | Secret = field(repr=False)
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"
    keep_existing: bool = False
    secret: bool = False
    ours_may_change: bool = False
    retain: Retain = Retain.nothing
    what: str = ""

    @property
    def id(self) -> str:
        return f"file:{self.path}"

    def describe(self) -> str:
        return f"write {self.path}" + (f" ({self.what})" if self.what else "")

    @property
    def hidden(self) -> bool:
        return self.secret or isinstance(self.content, Secret)

    @property
    def data(self) -> bytes:
        content = self.content.reveal() if isinstance(self.content, Secret) else self.content
        return content.encode() if isinstance(content, str) else content

    @property
    def digest(self) -> str:
        """Return the hex sha256 of the content."""
        return hashlib.sha256(self.data).hexdigest()

    def inspect(self, host: Host) -> Inspection:
        stat = host.stat(self.path)
        if stat is None:
            return Needed(self._new_diff())
        if stat.kind is not Kind.file:
            return not_a(Kind.file, self.path, stat)
        diff: tuple[str, ...] = ()
        if not self._content_fits(host):
            diff += self._content_diff(host.read_bytes(self.path))
        if not same_access(stat, self.mode, self.owner, self.group):
            diff += access_diff(self.path, stat, self.mode, self.owner, self.group)
        return Needed(diff) if diff else Satisfied()

    def prepare(self, host: Host) -> Prepared:
        stat = host.stat(self.path)
        ours = None if self.ours_may_change else self.digest
        if stat is None:
            return Prepared(Origin.created, (undo_file(self.path, ours_sha256=ours, retain=self.retain),))
        if self._content_fits(host):
            return Prepared(Origin.modified, (undo_mode(self.path, stat.mode, stat.owner, stat.group),))
        return Prepared(Origin.modified, (undo_file(self.path, ours_sha256=ours, retain=self.retain),))

    def apply(self, host: Host) -> None:
        stat = host.stat(self.path)
        if stat is not None and self._content_fits(host):
            host.set_mode(self.path, mode=self.mode, owner=self.owner, group=self.group)
            return
        require_parent(host, self.path)
        data = self.content if isinstance(self.content, Secret) else self.data
        xattrs = kept_xattrs(host, self.path) if stat is not None else None
        host.write_file(self.path, data, mode=self.mode, owner=self.owner, group=self.group, xattrs=xattrs)

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)

    # ---

    def _content_fits(self, host: Host) -> bool:
        if self.keep_existing:
            return True
        stat = host.stat(self.path)
        return stat is not None and stat.size == len(self.data) and host.sha256(self.path) == self.digest

    def _new_diff(self) -> tuple[str, ...]:
        if self.hidden:
            return (f"+ {self.path} (secret content)",)
        return self._content_diff(b"")

    def _content_diff(self, before: bytes) -> tuple[str, ...]:
        if self.hidden:
            return (f"{self.path}: content differs (secret)",)
        return content_diff(self.path, before, self.data)


def content_diff(path: str, before: bytes, after: bytes) -> tuple[str, ...]:
    """Return the unified diff of two contents, at most DIFF_LINES lines, or one line of sizes if either is not text."""
    try:
        old, new = before.decode(), after.decode()
    except UnicodeDecodeError:
        return (f"{path}: binary content differs ({len(before)} -> {len(after)} bytes)",)
    if "\0" in old or "\0" in new:
        return (f"{path}: binary content differs ({len(before)} -> {len(after)} bytes)",)
    source = path if before else "/dev/null"
    lines = list(difflib.unified_diff(old.splitlines(), new.splitlines(), source, path, lineterm=""))
    if not lines:
        return (f"{path}: end of the last line differs" if before or after else f"+ {path} (empty)",)
    if len(lines) > DIFF_LINES:
        lines = [*lines[:DIFF_LINES], f"… {len(lines) - DIFF_LINES} more lines"]
    return tuple(lines)
