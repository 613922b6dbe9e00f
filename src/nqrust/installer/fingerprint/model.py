"""The form of a fingerprint, and of a difference between two."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from typing import Any

from nqrust.host.errors import ParseError

SCHEMA = 1

Section = dict[str, Any]
"""Findings: a key that people understand (a path, a user's name) -> a JSON value."""


@dataclass(frozen=True)
class Fingerprint:
    """A fingerprint. `sections` by name; `unread`: unreadable parts and the reason (reported, never compared)."""

    taken_at: float  # seconds since the epoch
    sections: dict[str, Section]
    unread: tuple[str, ...] = ()
    schema: int = SCHEMA

    def to_json(self) -> dict[str, Any]:
        return {"schema": self.schema, "taken_at": self.taken_at, "unread": list(self.unread), **self.sections}

    def to_bytes(self, *, compress: bool = False) -> bytes:
        """Return sorted JSON, one value a line, so that diff(1) works on it."""
        data = json.dumps(self.to_json(), sort_keys=True, indent=0, ensure_ascii=True).encode() + b"\n"
        return gzip.compress(data, 6, mtime=0) if compress else data

    @classmethod
    def from_json(cls, document: object) -> Fingerprint:
        """Build a fingerprint from JSON. Raises ParseError, also for a schema newer than this program."""
        if not isinstance(document, dict) or not isinstance(document.get("schema"), int):
            raise ParseError("the fingerprint", "it has no schema version")
        if document["schema"] > SCHEMA or document["schema"] < 1:
            raise ParseError("the fingerprint", f"it has schema {document['schema']}, this program knows up to {SCHEMA}")
        sections: dict[str, Section] = {}
        for name, value in document.items():
            if name in ("schema", "taken_at", "unread"):
                continue
            if not isinstance(value, dict):
                raise ParseError("the fingerprint", f"section {name} is not an object")
            sections[name] = value
        taken, unread = document.get("taken_at", 0.0), document.get("unread", [])
        if not isinstance(taken, int | float) or not isinstance(unread, list):
            raise ParseError("the fingerprint", "its head is not in the form that was expected")
        return cls(float(taken), sections, tuple(str(one) for one in unread), document["schema"])

    @classmethod
    def from_bytes(cls, data: bytes) -> Fingerprint:
        """Build a fingerprint from plain or gzip-compressed JSON. Raises ParseError."""
        try:
            text = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
            document = json.loads(text)
        except (OSError, EOFError, ValueError, RecursionError) as error:
            raise ParseError("the fingerprint", str(error)) from error
        return cls.from_json(document)


@dataclass(frozen=True)
class Difference:
    """One difference. `before` is None for an addition, `after` is None for a removal."""

    section: str
    key: str
    before: Any = field(default=None)
    after: Any = field(default=None)

    @property
    def sign(self) -> str:
        if self.before is None:
            return "+"
        return "-" if self.after is None else "~"
