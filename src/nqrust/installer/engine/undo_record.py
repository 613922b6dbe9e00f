"""The form of an undo record: a verb, its arguments, and the conditions for running it.

Records are JSON in the journal. Every later version reads them, so a verb's meaning never changes; a new meaning is a new
verb. Arguments are JSON values and never a secret.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Retain(str, Enum):
    """Things that uninstall keeps unless a flag says otherwise. A rollback removes those that hold nothing of users: spared.py."""

    nothing = ""
    data = "data"  # VM disks, images: removed with --purge-data
    database = "database"  # role and database: removed with --drop-database
    packages = "packages"  # removed unless --keep-packages is set or kept data still needs them


@dataclass(frozen=True)
class Undo:
    """One change to revert."""

    verb: str
    args: dict[str, Any] = field(default_factory=dict)
    retain: Retain = Retain.nothing

    def to_json(self) -> dict[str, Any]:
        record: dict[str, Any] = {"verb": self.verb, "args": self.args}
        if self.retain is not Retain.nothing:
            record["retain"] = self.retain.value
        return record

    @property
    def path(self) -> str:
        """Where the thing is; empty if it has no place in the file system."""
        return str(self.args.get("path", ""))

    @property
    def half(self) -> bool:
        """Whether the thing is what an interrupted step leaves. It goes also where the rest of its entry stays."""
        return bool(self.args.get("half"))

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Undo:
        return cls(record["verb"], dict(record["args"]), Retain(record.get("retain", "")))
