"""One marked block in a shared file. The rest of the file stays byte for byte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nqrust.contract import names as product
from nqrust.host.port import Host, Kind, Stat
from nqrust.installer.engine.errors import StepConflict
from nqrust.installer.engine.step import (
    Conflict,
    Inspection,
    Needed,
    Origin,
    Prepared,
    Satisfied,
    verify_by_inspection,
)
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.verbs.file.file import content_diff
from nqrust.installer.verbs.file.owned import require_parent
from nqrust.installer.verbs.file.undo import (
    as_text,
    block_of,
    bytes_of,
    markers,
    text_of,
    undo_block,
    undo_block_text,
    with_block,
)

OWNER = product.PRODUCT


@dataclass(frozen=True)
class Block:
    """A block. `name` distinguishes nqr's blocks in one file. `lines` without line ends. `at_top`: for files whose first
    match wins (pg_hba.conf). The step creates a missing file with `mode`."""

    kind: ClassVar[str] = "block"

    path: str
    name: str
    lines: tuple[str, ...]
    at_top: bool = False
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"

    @property
    def id(self) -> str:
        return f"block:{self.path}:{self.name}"

    @property
    def marker(self) -> str:
        return f"{OWNER} {self.name}"

    def describe(self) -> str:
        return f"add the block “{self.name}” to {self.path}"

    def inspect(self, host: Host) -> Inspection:
        stat = host.stat(self.path)
        if stat is not None and stat.kind is not Kind.file:
            return self._refused(stat)
        before = text_of(host, self.path) if stat is not None else ""
        if self._unclosed(before):
            return Conflict(
                "NQR-CFG-105",
                f"nqr's block “{self.name}” in {self.path} has lost its end line.",
                f"Put the line “{markers(self.marker)[1]}” back (or remove the begin line), then run the same command again.",
            )
        after = self.wanted(before)
        if after == before:
            return Satisfied()
        return Needed(content_diff(self.path, bytes_of(before), bytes_of(after)))

    def prepare(self, host: Host) -> Prepared:
        stat = host.stat(self.path)
        created = stat is None
        before = block_of(text_of(host, self.path), self.marker) if stat is not None and stat.kind is Kind.file else ""
        if before:
            return Prepared(Origin.modified, (undo_block_text(self.path, self.marker, prior=before),))
        undo = undo_block(self.path, self.marker)
        record = Undo(undo.verb, {**undo.args, "created": created}, undo.retain)
        return Prepared(Origin.created if created else Origin.modified, (record,))

    def apply(self, host: Host) -> None:
        stat = host.stat(self.path)
        if stat is None:
            require_parent(host, self.path)
            host.write_file(self.path, self.wanted("").encode(), mode=self.mode, owner=self.owner, group=self.group)
            return
        if stat.kind is not Kind.file:
            refused = self._refused(stat)
            raise StepConflict(refused.code, refused.why, refused.cure)
        host.edit_file(self.path, lambda before: bytes_of(self.wanted(as_text(before))))

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)

    # ---

    def _refused(self, stat: Stat) -> Conflict:
        return Conflict(
            "NQR-CFG-101",
            f"{self.path} is a {stat.kind.value}. The block “{self.name}” needs a plain file.",
            f"Replace {self.path} by a plain file (a link by a copy of its target), then run the same command again.",
        )

    def wanted(self, before: str) -> str:
        """Return `before` with the wanted block. An existing block keeps its place."""
        begin, end = markers(self.marker)
        block = "".join(f"{line}\n" for line in (begin, *self.lines, end))
        if block in before:
            return before
        if block_of(before, self.marker):
            return with_block(before, self.marker, block)
        if self.at_top:
            return block + before
        if before and not before.endswith("\n"):
            before += "\n"
        return before + block

    def _unclosed(self, text: str) -> bool:
        begin, _ = markers(self.marker)
        return begin in (line.strip() for line in text.splitlines()) and not block_of(text, self.marker)
