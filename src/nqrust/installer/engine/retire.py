"""What an earlier run made and the plan of this one no longer asks for goes, by its own undo (docs/adr/0007).

The runner calls `retire` when every step of a whole plan is done and healthy. By then the run is over and recorded as
well ended: what retiring undoes belongs to a journal run of its own, which begins nothing. Cut off anywhere, the next
install finds the same entries in the receipt and goes on; a failure later than that takes back its own run only.
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
"""Kind of steps that clear the way for a later step of their run. Their records bring back what was in the way if that run
fails; once that thing is retired, they are void."""


@dataclass(frozen=True)
class Retired:
    """`gone`: ids of steps that were taken back. `stays`: sentences about data that is no longer asked for. `kept`:
    sentences about what somebody changed since. `failed`: sentences about what stays recorded."""

    gone: tuple[str, ...] = ()
    stays: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    seconds: float = 0.0


def orphans(receipt: Receipt, plan: Plan) -> tuple[Entry, ...]:
    """Entries of steps that the plan no longer asks for, oldest first. A step goes whole or not at all: none of what an
    uninstall keeps without being told (data, database, packages), and nothing where there is nothing to undo."""
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
    """A sentence for each piece of data that the plan no longer asks for, and that is there and stays."""
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
    """Tell what `retire` would do, step by step, and give the number. Changes nothing. `changing`: other steps change
    something."""
    going = orphans(receipt, plan)
    steps = _steps([e for e in going if not _holds_others(verbs, host, e, going)])
    data = kept_data(host, receipt, plan) if steps or changing else ()
    if not steps and not data:
        return 0
    events.emit(PhaseStarted(PHASE, TITLE, len(steps)))
    for sentence in data:
        events.emit(Notice("info", sentence))
    for id, entries in steps.items():
        oldest = _as_removal(verbs, _without_shared(verbs, host, entries[0], going))  # it says what was there before
        more = verbs.told(oldest.undo)[1:]
        lines = tuple(f"- {line}" for line in more)
        events.emit(StepFinished(PHASE, id, oldest.kind, oldest.describe, "would-change", diff=lines))
    events.emit(PhaseFinished(PHASE, len(steps), 0, 0.0))
    return len(steps)


def retire(
    verbs: Verbs, host: Host, journal: Journal, originals: Originals, run: str, version: str, plan: Plan, events: Reporter
) -> Retired:
    """Undo every orphan, newest first, under a journal run `run`. Nothing is recorded where nothing is to go."""
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
    """Tells of each step once, when the oldest of its records is reverted, and of every failure."""

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
    """Entries by step id, each oldest first; the step whose last change is newest comes first, as undoing goes."""
    named: dict[str, list[Entry]] = {}
    for entry in entries:
        named.setdefault(entry.step_id, []).append(entry)
    return dict(sorted(named.items(), key=lambda item: item[1][-1].seq, reverse=True))


def _holds_others(verbs: Verbs, host: Host, entry: Entry, going: tuple[Entry, ...]) -> bool:
    """Whether the entry is a folder that holds more than what goes with `going`. It then stays in the receipt, so that
    uninstall finds it when it is empty."""
    return bool(entry.undo) and all(_is_shared(verbs, host, undo, going) for undo in entry.undo)


def _without_shared(verbs: Verbs, host: Host, entry: Entry, going: tuple[Entry, ...]) -> Entry:
    """A service made the folder of all services' keys: the service goes, and the folder stays for the others."""
    if _holds_others(verbs, host, entry, going):
        return entry
    return replace(entry, undo=tuple(undo for undo in entry.undo if not _is_shared(verbs, host, undo, going)))


def _as_removal(verbs: Verbs, entry: Entry) -> Entry:
    """The entry describes what is about to happen to it."""
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
