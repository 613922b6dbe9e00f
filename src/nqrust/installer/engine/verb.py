"""What reverting one record came to, and what a verb is given to work with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from nqrust.host.port import Host

if TYPE_CHECKING:
    from nqrust.installer.engine.originals import Originals  # which asks the packages verb what was made


@dataclass(frozen=True)
class Reverted:
    """It is as it was before (or already was)."""

    note: str = ""


@dataclass(frozen=True)
class Kept:
    """Part of it was left on purpose: someone changed it since, or it holds what is not ours. `where`: a path."""

    why: str
    where: str = ""


@dataclass(frozen=True)
class Partly:
    """The rest must stay while something retained needs it, so the record stays too and is reverted later."""

    why: str


Outcome = Reverted | Kept | Partly


@dataclass(frozen=True)
class UndoContext:
    """`needed_packages`: packages that must stay because something retained (a database) needs them. `with_older`: those
    that an older record, which is reverted after this one, brought too: a transaction that was cut off and then resumed is
    two records, whose packages need each other and go with the first."""

    host: Host
    originals: Originals
    needed_packages: frozenset[str] = field(default_factory=frozenset)
    with_older: frozenset[str] = field(default_factory=frozenset)


class Verb(Protocol):
    """Reverts one record; idempotent. Raises NqrError or HostError when it could not, and then is tried again later."""

    def __call__(self, context: UndoContext, args: dict[str, object]) -> Outcome: ...
