"""The form of an undo record: a verb, its arguments, and what must be asked before it runs.

Records are JSON in the journal and are read by every later version, so a verb's meaning never changes; a new meaning
is a new verb. Arguments are JSON values only and never a secret.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Retain(str, Enum):
    """What uninstall keeps unless a flag says otherwise. A rollback of a run that created the thing ignores this."""

    nothing = ""
    data = "data"  # VM disks, images: removed with --purge-data
    database = "database"  # role and database: removed with --drop-database
    packages = "packages"  # removed unless --keep-packages (or while what is kept still needs them)


@dataclass(frozen=True)
class Undo:
    """One thing to take back."""

    verb: str
    args: dict[str, Any] = field(default_factory=dict)
    retain: Retain = Retain.nothing

    def to_json(self) -> dict[str, Any]:
        record: dict[str, Any] = {"verb": self.verb, "args": self.args}
        if self.retain is not Retain.nothing:
            record["retain"] = self.retain.value
        return record

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Undo:
        return cls(record["verb"], dict(record["args"]), Retain(record.get("retain", "")))
