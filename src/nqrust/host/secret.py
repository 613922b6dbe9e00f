"""A value that never shows: it renders as asterisks wherever it is printed, formatted, logged or serialised."""

from __future__ import annotations

from dataclasses import dataclass, field

MASK = "********"


@dataclass(frozen=True, repr=False)
class Secret:
    """Holds `value`; only `reveal()` gives it out, so every place that uses it can be found by that name."""

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
