"""A value that is never shown: it renders as asterisks when printed, formatted, logged or serialised."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MASK = "********"

_CREDENTIALS = re.compile(r"(?<=://)[^/\s'\"@:]*:[^/\s'\"]*(?=@)")


def without_credentials(text: str) -> str:
    """Return `text` with `user:password` of every URL masked (RFC 3986, 3.2.1): programs show the address of their proxy."""
    return _CREDENTIALS.sub(MASK, text)


@dataclass(frozen=True, repr=False)
class Secret:
    """Holds `value`. Only `reveal()` returns it, so that a search for that name finds every use."""

    value: str = field(repr=False)

    def reveal(self) -> str:
        return self.value

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return MASK

    def __bool__(self) -> bool:
        return bool(self.value)
