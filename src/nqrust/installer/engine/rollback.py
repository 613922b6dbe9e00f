"""Rollback: undo entries, newest first. A failed undo stays in the journal, and the rest continues."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

from nqrust.host.errors import HostError
from nqrust.installer.engine.errors import NqrError
from nqrust.installer.engine.events import Notice, Reporter, StepFinished, StepStarted
from nqrust.installer.engine.journal import Journal, Record
from nqrust.installer.engine.receipt import Entry, Receipt
from nqrust.installer.engine.spared import NOTHING_SPARED, Spared
from nqrust.installer.engine.together import with_older
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.engine.verb import Kept, Outcome, Partly, UndoContext, Verb, Verbs


@dataclass(frozen=True)
class RollbackResult:
    """The result. `undone`: reverted entries. `kept`: sentences about what nqr left on purpose. `failed`: entries that stay.
    `stopped`: `stops` ended it early, so the rest stays too."""

    undone: int
    retained: int
    kept: tuple[str, ...]
    failed: tuple[str, ...]
    waits: tuple[str, ...] = ()
    """Why some records stay for a later revert."""
    stopped: bool = False


def stays(
    receipt: Receipt,
    entries: Collection[Entry],
    retain: Callable[[Entry], bool] = lambda entry: False,
    spared: Spared = NOTHING_SPARED,
) -> list[Undo]:
    """Return the records that stay when `entries` are undone. They count from the start: a user of theirs waits for older ones."""
    going = [entry for entry in entries if not retain(entry)]
    seqs, given = {entry.seq for entry in going}, {entry.seq for entry in entries}
    kept = [entry for entry in receipt.entries if entry.seq not in seqs and (entry.retained or entry.seq in given)]
    return [undo for entry in kept for undo in entry.undo] + [undo for entry in going for undo in entry.undo if spared.why(undo)]


def roll_back(
    verbs: Verbs,
    context: UndoContext,
    journal: Journal,
    run: str,
    entries: Iterable[Entry],
    events: Reporter,
    *,
    retain: Callable[[Entry], bool] = lambda entry: False,
    spared: Spared = NOTHING_SPARED,
    stops: Callable[[], bool] = lambda: False,
) -> RollbackResult:
    """Undo `entries` in reverse order, except those that `retain` keeps, and records that are `spared`. Can be repeated after an
    interruption at any point. Asks before each entry whether it `stops` there. Services then restart in the next attempt, with
    all their earlier files."""
    undone = retained = 0
    kept: list[str] = []
    failed: list[str] = []
    waits: list[str] = []
    waiting: list[Entry] = []
    missed = False  # a failed undo will need its program at the next attempt
    tried = frozenset[tuple[str, str]]()  # things whose undo failed, and is not tried again
    context = replace(context, tell=lambda text: events.emit(Notice("info", text)))
    newest_first = sorted(entries, key=lambda e: e.seq, reverse=True)
    going = [entry for entry in newest_first if not retain(entry)]
    staying = stays(Receipt.of(journal), newest_first, retain, spared)
    if stops():
        return RollbackResult(0, 0, (), (), stopped=True)
    verbs.rest(context, (undo for entry in going for undo in entry.undo))
    for entry in newest_first:
        if stops():
            return RollbackResult(undone, retained, tuple(kept), tuple(failed), tuple(waits), stopped=True)
        if retain(entry):
            if not entry.retained:
                journal.append("retained", run, entry=entry.seq)
            retained += 1
            failed += _clear_halves(verbs, context, entry)
            continue
        events.emit(StepStarted(entry.phase, entry.step_id, entry.kind, entry.describe))
        began = context.host.monotonic()
        if tried & verbs.once(entry.undo):
            what = "an attempt failed in this run already"
            journal.append("undo-failed", run, entry=entry.seq, what=what)
            failed.append(f"{entry.describe}: {what}")
            _finished(events, entry, "undo-failed", 0.0, what)
            continue
        try:
            if missed and verbs.any(entry.undo, lambda verb: verb.brings_programs):
                raise HostError("packages stay until what failed before, which may need their programs, is undone")
            if failed and verbs.any(entry.undo, lambda verb: verb.last):
                raise HostError("it stays until what failed before is undone")
            now = replace(with_older(context, entry, going), staying=tuple(staying))
            outcomes = _revert_entry(verbs, now, entry, spared)
        except Exception as error:  # bugs in nqr too: the rest is still reverted
            foreseen = isinstance(error, (NqrError, HostError))
            what = str(error) if foreseen else f"{type(error).__name__}: {error}"
            journal.append("undo-failed", run, entry=entry.seq, what=what)
            failed.append(f"{entry.describe}: {what}")
            missed = missed or verbs.any(entry.undo, lambda verb: verb.needs_programs)
            tried |= verbs.once(entry.undo)
            _finished(events, entry, "undo-failed", context.host.monotonic() - began, what)
            events.emit(
                Notice(
                    "error",
                    f"Could not undo “{entry.describe}”: {what}",
                    "NQR-ENG-005",
                    "Fix the cause and run the same command again. nqr keeps the record.",
                )
            )
            continue
        left = [o for _, o in outcomes if isinstance(o, Kept)]
        if partly := [o.why for _, o in outcomes if isinstance(o, Partly)]:
            journal.append("retained", run, entry=entry.seq)
            waits += partly
            retained += 1
            staying += [undo for undo, outcome in outcomes if isinstance(outcome, Partly)]
            _finished(events, entry, "kept", context.host.monotonic() - began, "; ".join(partly))
            continue
        if left and failed:
            # An earlier failure may be the only obstacle here (a file in this directory): this entry waits for it.
            journal.append("undo-failed", run, entry=entry.seq, what=left[0].why)
            failed.append(f"{entry.describe}: {left[0].why}")
            continue
        if any(verbs.needs_settling(undo) for undo in entry.undo):
            waiting.append(entry)  # stays in the journal until its service has restarted
        for item in left:
            journal.append("kept", run, entry=entry.seq, why=item.why, where=item.where)
            kept.append(item.why + (f" ({item.where})" if item.where and item.where not in item.why else ""))
        if entry not in waiting:
            journal.append("undone", run, entry=entry.seq)
        undone += 1
        why = "; ".join(item.why for item in left)
        _finished(events, entry, "kept" if left else "undone", context.host.monotonic() - began, why)
    kept += _settle(verbs, context, journal, run, waiting, failed)
    return RollbackResult(undone, retained, tuple(kept), tuple(failed), tuple(waits))


def _clear_halves(verbs: Verbs, context: UndoContext, entry: Entry) -> list[str]:
    """Remove what an interruption left of an entry that stays. Return what failed."""
    try:
        for undo in entry.halves:
            verbs.revert(context, undo)
    except (NqrError, HostError) as error:
        return [f"{entry.describe}: {error}"]
    return []


def _finished(events: Reporter, entry: Entry, outcome: str, seconds: float, note: str) -> None:
    events.emit(StepFinished(entry.phase, entry.step_id, entry.kind, entry.describe, outcome, seconds, note=note))


def _settle(verbs: Verbs, context: UndoContext, journal: Journal, run: str, waiting: list[Entry], failed: list[str]) -> list[str]:
    """Restart the services that ran before, oldest first. After an interruption, all of it runs again."""
    settling = [verb for name in verbs if (verb := verbs.get(name)) and verb.settling]
    if not any(_calls_for(verb, record) for verb in settling for record in journal.records) and not waiting:
        return []
    seqs = {entry.seq for entry in waiting}
    oldest_first = [entry for entry in Receipt.of(journal).entries if entry.seq in seqs]  # with what was decided meanwhile
    units = [undo for entry in oldest_first for undo in entry.undo if verbs.needs_settling(undo) and entry.decides(undo)]
    try:
        left: list[Kept] = []
        for verb in settling:
            assert verb.settling is not None
            left += verb.settling.settle(context, [undo for undo in units if undo.verb == verb.name])
    except HostError as error:
        for entry in oldest_first:
            journal.append("undo-failed", run, entry=entry.seq, what=str(error))
        failed.append(f"services that ran before could not be restarted: {error}")
        return []
    for entry in oldest_first:
        journal.append("undone", run, entry=entry.seq)
    return [item.why for item in left]


def _calls_for(verb: Verb, record: Record) -> bool:
    undos = record.body.get("undo", ()) if record.type == "begin" else ()
    return any(undo["verb"] == verb.name and verb.settling is not None and verb.settling.always(undo["args"]) for undo in undos)


def _revert_entry(verbs: Verbs, context: UndoContext, entry: Entry, spared: Spared) -> list[tuple[Undo, Outcome]]:
    return [(undo, Partly(why) if (why := spared.why(undo)) else verbs.revert(context, undo)) for undo in reversed(entry.undo)]
