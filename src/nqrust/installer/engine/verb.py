"""What a way of going back (a verb) is: how it reverts a record, foretells it and says it, and what the engine asks of it.

The engine knows no verb by name. Whoever calls it hands in the closed set of them as `Verbs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from nqrust.host.port import Host
from nqrust.installer.engine.errors import JournalError
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.undo_record import Undo


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
    """`needed_packages`: packages that must stay because something retained (a database) needs them. `older`: the records
    that are reverted after this one; what they brought too is left to them."""

    host: Host
    originals: Originals
    needed_packages: frozenset[str] = field(default_factory=frozenset)
    older: tuple[Undo, ...] = ()


@dataclass(frozen=True)
class Forecast:
    """`lines`: what is done. `stays`: what is left on purpose and then forgotten; `waits`: what stays recorded, and is
    reverted when what needs it goes. `packages`: those that are removed."""

    lines: tuple[str, ...] = ()
    stays: tuple[str, ...] = ()
    waits: tuple[str, ...] = ()
    packages: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Settling:
    """The end of going back, of a verb that has one. `needed`: whether a record waits for it. `always`: whether a record in
    the journal calls for it, though none waits. `settle` gets the records in the order in which they were made."""

    needed: Callable[[dict[str, Any]], bool]
    always: Callable[[dict[str, Any]], bool]
    settle: Callable[[UndoContext, list[Undo]], list[Kept]]


@dataclass(frozen=True)
class Verb:
    """One verb. `revert` is idempotent; it raises NqrError or HostError when it could not, and is tried again later.

    `words` says what reverting does; `forecast` says it where only a look at the host tells. `script` gives the lines of
    shell that do it without nqr. `capture` completes a record before its step changes anything; `conclude` gives the digest of what is known when the step is done. `needs_programs`:
    it runs programs that a package of ours may have brought, and as long as one of these has failed, records of a verb that
    `brings_programs` stay. `replaces`: what was at its path before is put aside. `shared_folder`: the folder of a record, in
    which others may have something."""

    name: str
    revert: Callable[[UndoContext, dict[str, Any]], Outcome]
    words: Callable[[dict[str, Any]], str]
    script: Callable[[UndoContext, dict[str, Any]], Iterator[str]]
    forecast: Callable[[UndoContext, dict[str, Any]], Forecast | str] | None = None
    capture: Callable[[Originals, dict[str, Any]], dict[str, Any]] = lambda originals, args: args
    conclude: Callable[[Originals, dict[str, Any]], str] = lambda originals, args: ""
    needs_programs: bool = False
    brings_programs: bool = False
    replaces: bool = False
    shared_folder: Callable[[dict[str, Any]], str] = lambda args: ""
    settling: Settling | None = None


class Verbs:
    """A closed set of verbs. A name's meaning never changes; a new meaning is a new name."""

    def __init__(self, *verbs: Verb) -> None:
        self._by_name = {verb.name: verb for verb in verbs}

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def get(self, name: str) -> Verb | None:
        return self._by_name.get(name)

    def revert(self, context: UndoContext, undo: Undo) -> Outcome:
        """Carry out one record. Raises JournalError NQR-ENG-014 for a verb we do not know, and what the verb raises."""
        return self._known(undo.verb).revert(context, undo.args)

    def script(self, context: UndoContext, undo: Undo) -> Iterator[str]:
        """Lines of shell that carry out one record. Raises JournalError NQR-ENG-014 for a verb we do not know."""
        return self._known(undo.verb).script(context, undo.args)

    def _known(self, name: str) -> Verb:
        verb = self.get(name)
        if verb is None:
            raise JournalError(
                "NQR-ENG-014",
                f"The journal names the undo verb “{name}”, which this nqr does not know.",
                "Run the nqr that wrote it, or a newer one.",
            )
        return verb

    def capture(self, originals: Originals, undo: Undo) -> Undo:
        """The record with what must be kept before its step changes anything."""
        verb = self.get(undo.verb)
        return Undo(undo.verb, verb.capture(originals, undo.args), undo.retain) if verb else undo

    def conclude(self, originals: Originals, undos: Sequence[Undo]) -> dict[str, str]:
        """For the `done` record: what came of the step that its undo could not say before. Index of the undo record ->
        digest of it."""
        verbs = [(str(index), undo, self.get(undo.verb)) for index, undo in enumerate(undos)]
        found = {index: verb.conclude(originals, undo.args) for index, undo, verb in verbs if verb}
        return {index: digest for index, digest in found.items() if digest}

    def told(self, undos: Iterable[Undo]) -> tuple[str, ...]:
        """One line for each record, in the order in which they are reverted."""
        return tuple(self.words(undo.verb, undo.args) for undo in reversed(tuple(undos)))

    def words(self, name: str, args: dict[str, Any]) -> str:
        verb = self.get(name)
        return verb.words(args) if verb else f"cannot be foreseen: this nqr does not know the verb {name}"

    def any(self, undos: Iterable[Undo], asked: Callable[[Verb], bool]) -> bool:
        """Whether a record is of a verb of which `asked` is so."""
        found = (self.get(undo.verb) for undo in undos)
        return any(verb is not None and asked(verb) for verb in found)

    def needs_settling(self, undo: Undo) -> bool:
        verb = self.get(undo.verb)
        return verb is not None and verb.settling is not None and verb.settling.needed(undo.args)
