"""A verb: a way to revert a record. It reverts, forecasts and describes, and answers the engine's questions.

The engine knows no verb by name. The caller passes the closed set of verbs as `Verbs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from nqrust.host.errors import HostError
from nqrust.host.port import Host
from nqrust.installer.engine.errors import JournalError
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.undo_record import Undo


@dataclass(frozen=True)
class Reverted:
    """The thing is restored (or already was)."""

    note: str = ""


@dataclass(frozen=True)
class Kept:
    """Part of it stays on purpose: somebody changed it since, or it contains things that nqr did not make. `where`: a path."""

    why: str
    where: str = ""


@dataclass(frozen=True)
class Partly:
    """The rest must stay while something retained needs it, so the record also stays for a later revert."""

    why: str


Outcome = Reverted | Kept | Partly


@dataclass(frozen=True)
class UndoContext:
    """The context of a revert. `needed_packages`: packages that must stay because something retained (a database) needs them.
    `older`: records that are reverted after this one; things that they brought too are left to them. `staying`: records that
    stay. `tell` gets what a revert waits for, for people."""

    host: Host
    originals: Originals
    needed_packages: frozenset[str] = field(default_factory=frozenset)
    older: tuple[Undo, ...] = ()
    staying: tuple[Undo, ...] = ()
    tell: Callable[[str], None] = field(default=lambda text: None, compare=False, repr=False)

    def held(self, folder: str) -> str:
        """Return why the folder stays with what it holds; empty if nothing that stays is in it."""
        inside = (undo.path for undo in self.staying if undo.path.startswith(f"{folder}/"))
        there = next((path for path in inside if self.host.stat(path) is not None), "")
        return f"{folder} stays, because {there} does" if there else ""


@dataclass(frozen=True)
class Forecast:
    """The forecast of a revert. `lines`: actions. `stays`: things left on purpose and then forgotten. `waits`: things that
    stay recorded until nothing needs them. `packages`: packages to remove."""

    lines: tuple[str, ...] = ()
    stays: tuple[str, ...] = ()
    waits: tuple[str, ...] = ()
    packages: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Settling:
    """The last stage of a revert, for verbs that have one. `needed`: whether a record waits for it. `always`: whether a
    record in the journal requires it, even if none waits. `settle` gets the records in the order of their creation."""

    needed: Callable[[dict[str, Any]], bool]
    always: Callable[[dict[str, Any]], bool]
    settle: Callable[[UndoContext, list[Undo]], list[Kept]]


@dataclass(frozen=True)
class Verb:
    """One verb. `revert` is idempotent; it raises NqrError or HostError on failure and is retried later.

    `words` describes the revert; `forecast` describes it where only a look at the host can tell. `script` yields shell lines
    that do it without nqr. `capture` completes a record before its step changes anything; `conclude` returns the digest of
    what is known after the step. `needs_programs`: it runs programs that nqr's packages may have brought. After one of these
    fails, records of verbs with `brings_programs` stay. `last`: its records stay after any failure. `replaces`: an earlier file
    at its path is stored. `shared_folder`: the folder of a record that others may use too. `once`: the thing of a record, empty
    for most verbs. After a revert of it failed, other records of the same thing wait for the next run: each attempt costs the
    host something. `rest` stops, before the first revert, a program that would set again what other records revert; its own
    record decides whether it starts again.
    `rest_script` yields shell lines for that. `stays_script` returns a shell command that succeeds where a revert would leave the
    thing of a record, or an empty string.
    """

    name: str
    revert: Callable[[UndoContext, dict[str, Any]], Outcome]
    words: Callable[[dict[str, Any]], str]
    script: Callable[[UndoContext, dict[str, Any]], Iterator[str]]
    forecast: Callable[[UndoContext, dict[str, Any]], Forecast | str | None] = lambda context, args: None
    capture: Callable[[Originals, dict[str, Any]], dict[str, Any]] = lambda originals, args: args
    conclude: Callable[[Originals, dict[str, Any]], str] = lambda originals, args: ""
    needs_programs: bool = False
    brings_programs: bool = False
    last: bool = False
    replaces: bool = False
    shared_folder: Callable[[dict[str, Any]], str] = lambda args: ""
    once: Callable[[dict[str, Any]], str] = lambda args: ""
    settling: Settling | None = None
    rest: Callable[[UndoContext, dict[str, Any]], None] = lambda context, args: None
    rest_script: Callable[[dict[str, Any]], Iterator[str]] = lambda args: iter(())
    stays_script: Callable[[dict[str, Any]], str] = lambda args: ""


class Verbs:
    """A closed set of verbs. A name's meaning never changes; a new meaning is a new name."""

    def __init__(self, *verbs: Verb) -> None:
        self._by_name = {verb.name: verb for verb in verbs}

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def get(self, name: str) -> Verb | None:
        return self._by_name.get(name)

    def revert(self, context: UndoContext, undo: Undo) -> Outcome:
        """Carry out one record. Raises JournalError NQR-ENG-014 for an unknown verb, and the verb's own errors."""
        return self._known(undo.verb).revert(context, undo.args)

    def script(self, context: UndoContext, undo: Undo) -> Iterator[str]:
        """Yield shell lines that carry out one record. Raises JournalError NQR-ENG-014 for an unknown verb."""
        return self._known(undo.verb).script(context, undo.args)

    def rest(self, context: UndoContext, undos: Iterable[Undo]) -> None:
        """Stop what would set again what these records revert. Never raises HostError: a program that stays up makes the revert
        fail that it disturbs, and that says so."""
        for undo in undos:
            verb = self.get(undo.verb)
            if verb is not None:
                with suppress(HostError):
                    verb.rest(context, undo.args)

    def rest_script(self, undos: Iterable[Undo]) -> list[str]:
        """Return shell lines that do the same, each once."""
        verbs = [(self.get(undo.verb), undo.args) for undo in undos]
        return list(dict.fromkeys(line for verb, args in verbs if verb for line in verb.rest_script(args)))

    def stays_script(self, undos: Iterable[Undo]) -> str:
        """Return a shell command that succeeds where a revert of these records would leave something, or an empty string."""
        found = (verb.stays_script(undo.args) for undo in undos if (verb := self.get(undo.verb)))
        return " || ".join(filter(None, found))

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
        """Return the record, completed with everything that must be stored before its step changes anything."""
        verb = self.get(undo.verb)
        return Undo(undo.verb, verb.capture(originals, undo.args), undo.retain) if verb else undo

    def conclude(self, originals: Originals, undos: Sequence[Undo]) -> dict[str, str]:
        """Return, for the `done` record, results of the step that its undo could not contain before: index of the undo record
        -> digest."""
        verbs = [(str(index), undo, self.get(undo.verb)) for index, undo in enumerate(undos)]
        found = {index: verb.conclude(originals, undo.args) for index, undo, verb in verbs if verb}
        return {index: digest for index, digest in found.items() if digest}

    def told(self, undos: Iterable[Undo]) -> tuple[str, ...]:
        """Return one line for each record, in the order of reverting."""
        return tuple(self.words(undo.verb, undo.args) for undo in reversed(tuple(undos)))

    def words(self, name: str, args: dict[str, Any]) -> str:
        verb = self.get(name)
        return verb.words(args) if verb else f"cannot be foreseen: this nqr does not know the verb {name}"

    def any(self, undos: Iterable[Undo], asked: Callable[[Verb], bool]) -> bool:
        """Return whether `asked` holds for the verb of any record."""
        found = (self.get(undo.verb) for undo in undos)
        return any(verb is not None and asked(verb) for verb in found)

    def once(self, undos: Iterable[Undo]) -> frozenset[tuple[str, str]]:
        """Return the verbs and things of the records that are tried once in a run."""
        found = ((undo, self.get(undo.verb)) for undo in undos)
        return frozenset((verb.name, thing) for undo, verb in found if verb is not None and (thing := verb.once(undo.args)))

    def needs_settling(self, undo: Undo) -> bool:
        verb = self.get(undo.verb)
        return verb is not None and verb.settling is not None and verb.settling.needed(undo.args)
