"""The receipt: what this host has of us, folded from the journal. Nothing is stored that could disagree with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from nqrust.installer.engine.journal import Journal, Record
from nqrust.installer.engine.step import Origin
from nqrust.installer.engine.undo_record import Retain, Undo


@dataclass(frozen=True)
class Entry:
    """One applied (or begun) step. `seq` is that of its `begin`. `decided`: what was reverted already by an older
    record, made when ours had not yet started them: they do not run again."""

    seq: int
    run: str
    step_id: str
    kind: str
    phase: str
    describe: str
    origin: Origin
    undo: tuple[Undo, ...]
    at: float
    done: bool = False
    retained: bool = False
    undo_error: str = ""
    decided: frozenset[tuple[str, str]] = frozenset()

    @property
    def names(self) -> frozenset[tuple[str, str]]:
        """What it says how to bring back, as verb and name, where it has one."""
        return frozenset((u.verb, str(u.args["name"])) for u in self.undo if "name" in u.args)

    def decides(self, undo: Undo) -> bool:
        """Whether this record still says how what it names ends up: no later run has brought that back already."""
        return (undo.verb, str(undo.args.get("name"))) not in self.decided

    @property
    def retain(self) -> Retain:
        """The strongest reason to keep it: an entry is kept whole."""
        return next((u.retain for u in self.undo if u.retain is not Retain.nothing), Retain.nothing)


@dataclass(frozen=True)
class Run:
    id: str
    verb: str
    at: float
    version: str
    settings: dict[str, Any]
    resumes: tuple[str, ...] = ()
    outcome: str = ""  # empty: it never ended
    retiring: bool = False  # it only took back what an install no longer asked for


@dataclass(frozen=True)
class Receipt:
    """`entries`: what is still to be taken back, oldest first. `runs`: oldest first."""

    entries: tuple[Entry, ...] = ()
    runs: tuple[Run, ...] = ()

    @classmethod
    def of(cls, journal: Journal) -> Receipt:
        entries: dict[int, Entry] = {}
        runs: dict[str, Run] = {}
        for record in journal.records:
            _fold(record, entries, runs)
        return cls(tuple(entries[k] for k in sorted(entries)), tuple(runs.values()))

    @property
    def installed(self) -> bool:
        """Whether anything of ours is in place that uninstall would take back."""
        return any(not e.retained for e in self.entries)

    @property
    def unfinished(self) -> tuple[Run, ...]:
        """Runs that changed things and never ended, or ended with `failed`, and were not continued by a later run."""
        continued = {r for run in self.runs for r in run.resumes}
        with_entries = {e.run for e in self.entries}
        return tuple(
            run
            for run in self.runs
            if run.outcome in ("", "failed") and run.id not in continued and (run.id in with_entries or not run.outcome)
        )

    @property
    def last_settings(self) -> dict[str, Any]:
        """Settings of the last install that ended well, or of the unfinished one; empty when there was none."""
        for run in reversed(self.runs):
            if run.verb in ("install", "upgrade") and run.settings and run.outcome in ("ok", "", "failed"):
                return run.settings
        return {}

    def with_continued(self, ids: Iterable[str]) -> set[str]:
        """These runs, the runs that they continued, and so on: what began together is taken back together."""
        known = {run.id: run for run in self.runs}
        found: set[str] = set()
        todo = list(ids)
        while todo:
            id = todo.pop()
            if id not in found:
                found.add(id)
                todo += known[id].resumes if id in known else ()
        return found

    def of_runs(self, ids: set[str]) -> tuple[Entry, ...]:
        return tuple(e for e in self.entries if e.run in ids)

    def created(self, step_id: str) -> bool:
        """Whether a thing that exists now came from us (created or modified, and not yet taken back)."""
        return any(e.step_id == step_id for e in self.entries)


def unfinished_entries(receipt: Receipt) -> Iterable[str]:
    """Ids of the runs that `nqr rollback` would undo: the unfinished ones, else the last that ended well; each with the runs
    that it continued. One that only retired made nothing: it belongs to the run before it."""
    unfinished = [run.id for run in receipt.unfinished if not run.retiring]
    if unfinished:
        return receipt.with_continued(unfinished)
    without_entries: set[str] = set()
    for run in reversed(receipt.runs):
        if run.verb in ("rollback", "uninstall"):
            continue
        together = receipt.with_continued([run.id])
        if run.outcome == "ok" and receipt.of_runs(together):
            return together | without_entries
        if not receipt.of_runs({run.id}):
            without_entries.add(run.id)
    return ()


def _fold(record: Record, entries: dict[int, Entry], runs: dict[str, Run]) -> None:
    body = record.body
    if record.type == "run":
        runs[record.run] = Run(
            record.run,
            body["verb"],
            record.at,
            body.get("version", ""),
            body.get("settings", {}),
            tuple(body.get("resumes", ())),
            retiring=bool(body.get("retiring")),
        )
    elif record.type == "end":
        run = runs.get(record.run)
        if run is not None:
            runs[record.run] = replace(run, outcome=body["outcome"])
    elif record.type == "begin":
        step = body["step"]
        entries[record.seq] = Entry(
            record.seq,
            record.run,
            step["id"],
            step["kind"],
            step["phase"],
            step["describe"],
            Origin(body["origin"]),
            tuple(Undo.from_json(u) for u in body["undo"]),
            record.at,
        )
    else:
        entry = entries.get(body.get("entry", -1))
        if entry is None:
            return
        if record.type == "undone":
            del entries[entry.seq]
            for later in entries.values():
                if later.seq > entry.seq and later.names & entry.names:
                    entries[later.seq] = _replaced(later, decided=later.decided | entry.names)
        elif record.type == "done":
            entries[entry.seq] = _replaced(entry, done=True, undo=_completed(entry.undo, body.get("made", {})))
        elif record.type == "retained":
            entries[entry.seq] = _replaced(entry, retained=True)
        elif record.type == "undo-failed":
            entries[entry.seq] = _replaced(entry, undo_error=body.get("what", ""))


def _replaced(entry: Entry, **changes: Any) -> Entry:
    return Entry(**{**entry.__dict__, **changes})


def _completed(undos: tuple[Undo, ...], made: dict[str, str]) -> tuple[Undo, ...]:
    """Undo records with what could be told only when the step was done."""
    return tuple(
        Undo(undo.verb, {**undo.args, "made": made[str(index)]}, undo.retain) if str(index) in made else undo
        for index, undo in enumerate(undos)
    )
