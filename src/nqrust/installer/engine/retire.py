"""Retiring: an install removes things that earlier runs made and its plan no longer contains, by their own undo records
(docs/adr/0007).

The runner calls `retire` after every step of a whole plan is done and healthy. By then the run has ended successfully, so
retiring gets its own journal run, which begins no step. After an interruption the next install finds the same entries in the
receipt and continues. A later failure reverts only its own run.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from dataclasses import dataclass, replace

from nqrust.host.errors import HostError
from nqrust.host.port import Host, Kind
from nqrust.installer.engine.events import (
    Event,
    Notice,
    PhaseFinished,
    PhaseStarted,
    Reporter,
    StepFinished,
    StepStarted,
)
from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.plan import Plan
from nqrust.installer.engine.receipt import Entry, Receipt
from nqrust.installer.engine.rollback import roll_back
from nqrust.installer.engine.undo_record import Retain, Undo
from nqrust.installer.engine.verb import UndoContext, Verbs

PHASE, TITLE = "retire", "What is no longer asked for"
MAKES_WAY = "makes-way"
"""Kind of steps that clear the way for a later step of their run. If the run fails, their records restore what was in the
way. After that thing is retired, the records are void."""


@dataclass(frozen=True)
class Retired:
    """The result of retiring. `gone`: ids of reverted steps. `stays`: sentences about data that the settings no longer
    contain. `kept`: sentences about things that somebody changed since. `failed`: sentences about entries that stay recorded."""

    gone: tuple[str, ...] = ()
    stays: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    seconds: float = 0.0


def orphans(receipt: Receipt, plan: Plan) -> tuple[Entry, ...]:
    """Return the entries of steps that the plan no longer contains, oldest first. A step is retired whole or not at all.
    Excluded are entries that uninstall keeps by default (data, database, packages), and entries with nothing to undo."""
    named: dict[str, list[Entry]] = {}
    for entry in receipt.entries:
        named.setdefault(entry.step_id, []).append(entry)
    going = {
        id
        for id, entries in named.items()
        if any(e.undo for e in entries)
        and all(e.retain is Retain.nothing and not e.retained for e in entries)
        and not plan.asks_for(id)
        and all(e.kind != MAKES_WAY for e in entries)
    }
    return tuple(e for e in receipt.entries if e.step_id in going)


def kept_data(host: Host, receipt: Receipt, plan: Plan) -> tuple[str, ...]:
    """Return a sentence for each piece of existing data that the plan no longer contains and that stays."""
    found: dict[str, None] = {}
    for entry in receipt.entries:
        if entry.retain is not Retain.data or plan.asks_for(entry.step_id):
            continue
        for undo in entry.undo:
            path = str(undo.args.get("path", ""))
            if undo.retain is Retain.data and path and host.exists(path):
                found[f"{path} is data and stays; `nqr uninstall --purge-data` removes it."] = None
    return tuple(found)


def preview_retiring(verbs: Verbs, host: Host, receipt: Receipt, plan: Plan, events: Reporter, *, changing: bool = False) -> int:
    """Report what `retire` would do, step by step, and return the number of steps. Changes nothing. `changing`: other steps
    change something."""
    going = orphans(receipt, plan)
    steps = _steps([e for e in going if not _holds_others(verbs, host, e, going)])
    data = kept_data(host, receipt, plan) if steps or changing else ()
    if not steps and not data:
        return 0
    events.emit(PhaseStarted(PHASE, TITLE, len(steps)))
    for sentence in data:
        events.emit(Notice("info", sentence))
    for id, entries in steps.items():
        oldest = _as_removal(verbs, _without_shared(verbs, host, entries[0], going))  # it describes what was there before
        more = verbs.told(oldest.undo)[1:]
        lines = tuple(f"- {line}" for line in more)
        events.emit(StepFinished(PHASE, id, oldest.kind, oldest.describe, "would-change", diff=lines))
    events.emit(PhaseFinished(PHASE, len(steps), 0, 0.0))
    return len(steps)


def retire(
    verbs: Verbs, host: Host, journal: Journal, originals: Originals, run: str, version: str, plan: Plan, events: Reporter
) -> Retired:
    """Undo every orphan, newest first, in a journal run `run`. Records nothing without orphans."""
    receipt = Receipt.of(journal)
    going, stays = orphans(receipt, plan), kept_data(host, receipt, plan)
    if all(_holds_others(verbs, host, e, going) for e in going):
        return Retired(stays=stays)
    before, began = _steps(going), host.monotonic()
    events.emit(PhaseStarted(PHASE, TITLE, len(before)))
    journal.append("run", run, verb="install", version=version, settings={}, resumes=[], retiring=True)
    for entry in Receipt.of(journal).entries:
        if entry.kind == MAKES_WAY:
            journal.append("undone", run, entry=entry.seq)
    result = roll_back(
        verbs,
        UndoContext(host, originals),
        journal,
        run,
        [_as_removal(verbs, _without_shared(verbs, host, e, going)) for e in going],
        _OncePerStep(events, Counter(e.step_id for e in going)),
        retain=lambda entry: _holds_others(verbs, host, entry, ()),
    )
    left = {e.step_id for e in orphans(Receipt.of(journal), plan)}
    held = {e.step_id for e in Receipt.of(journal).entries if e.retained}
    gone = tuple(id for id in before if id not in left | held)
    journal.append("end", run, outcome="failed" if result.failed else "ok")
    seconds = host.monotonic() - began
    events.emit(PhaseFinished(PHASE, len(gone), 0, seconds))
    return Retired(gone, stays, result.kept, result.failed, seconds)


@dataclass
class _OncePerStep:
    """A reporter that reports each step once, when its oldest record is reverted, and every failure."""

    events: Reporter
    left: Counter[str]

    def emit(self, event: Event) -> None:
        if isinstance(event, StepStarted) and self.left[event.id] > 1:
            return
        if isinstance(event, StepFinished):
            self.left[event.id] -= 1
            if self.left[event.id] > 0 and event.outcome != "undo-failed":
                return
        self.events.emit(event)


def _steps(entries: list[Entry] | tuple[Entry, ...]) -> dict[str, list[Entry]]:
    """Group entries by step id, oldest first. The step with the newest change comes first, in the order of undoing."""
    named: dict[str, list[Entry]] = {}
    for entry in entries:
        named.setdefault(entry.step_id, []).append(entry)
    return dict(sorted(named.items(), key=lambda item: item[1][-1].seq, reverse=True))


def _holds_others(verbs: Verbs, host: Host, entry: Entry, going: tuple[Entry, ...]) -> bool:
    """Return whether the entry is a folder that holds more than `going` removes. Such an entry stays in the receipt, so that
    uninstall finds it after the folder is empty."""
    return bool(entry.undo) and all(_is_shared(verbs, host, undo, going) for undo in entry.undo)


def _without_shared(verbs: Verbs, host: Host, entry: Entry, going: tuple[Entry, ...]) -> Entry:
    """Return the entry without a folder that other services share, such as the folder of keys. The service goes and the
    folder stays."""
    if _holds_others(verbs, host, entry, going):
        return entry
    return replace(entry, undo=tuple(undo for undo in entry.undo if not _is_shared(verbs, host, undo, going)))


def _as_removal(verbs: Verbs, entry: Entry) -> Entry:
    """Return the entry described as a removal."""
    return replace(entry, describe=next(iter(verbs.told(entry.undo)), entry.describe))


def _is_shared(verbs: Verbs, host: Host, undo: Undo, going: tuple[Entry, ...]) -> bool:
    verb = verbs.get(undo.verb)
    path = verb.shared_folder(undo.args) if verb else ""
    if not path:
        return False
    ours = {str(u.args["path"]): u for e in going for u in e.undo if "path" in u.args}
    inside = [posixpath.join(path, name) for name in _listed(host, path)]
    return any(below not in ours or _is_shared(verbs, host, ours[below], going) for below in inside)


def _listed(host: Host, path: str) -> list[str]:
    stat = host.stat(path)
    try:
        return host.listdir(path) if stat is not None and stat.kind is Kind.directory else []
    except HostError:
        return []
