"""Records that a rollback leaves: nobody was asked for them, and their end is for good.

An undo record says how to remove what a run made. Since then, users may have put something there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nqrust.installer.engine.receipt import Entry
from nqrust.installer.engine.undo_record import Undo

_NOTHING: Callable[[Undo], str] = lambda undo: ""  # noqa: E731


@dataclass(frozen=True)
class Spared:
    """Each function returns what of that kind a record would remove, as a phrase; empty if there is none. `users`: things of users.
    `copies`: what was saved before a change that nothing else can take back, and what belongs to things of users. The answers hold for
    a whole rollback once `of_users` was asked, which must be before it stops anything."""

    users: Callable[[Undo], str] = _NOTHING
    copies: Callable[[Undo], str] = _NOTHING
    packages: Callable[[], frozenset[str]] = frozenset
    """Packages that must stay for that."""

    def why(self, undo: Undo) -> str:
        """Return why a rollback does not revert the record; empty if it does."""
        return self.users(undo) or self.copies(undo)

    def of_users(self, entries: Iterable[Entry]) -> tuple[str, ...]:
        """Return what of users these entries would remove, each once."""
        found = (self.users(undo) for entry in entries for undo in entry.undo)
        return tuple(dict.fromkeys(phrase for phrase in found if phrase))


NOTHING_SPARED = Spared()
