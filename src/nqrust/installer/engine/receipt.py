"""The receipt: everything that nqr has on this host, computed from the journal. It has no file of its own that could disagree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from nqrust.installer.engine.journal import Journal, Record
from nqrust.installer.engine.step import Origin
from nqrust.installer.engine.undo_record import Retain, Undo

KEEPS = "uninstall"
"""Verb whose runs keep what options tell. No rollback removes that. An install finishes an interrupted one, by putting the
platform back."""
FORWARD_ONLY = frozenset({"rotate"})
"""Verbs whose runs are finished, never undone. An install finishes them too."""


@dataclass(frozen=True)
class Entry:
    """One applied (or begun) step. `seq`: number of its `begin` record. `decided`: services that an older record has already
    reverted to their state before nqr started them; they do not start again. `retained`: a revert left it. `chosen`: somebody chose
    that in an uninstall."""

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
    chosen: bool = False
    undo_error: str = ""
    decided: frozenset[tuple[str, str]] = frozenset()

    @property
    def names(self) -> frozenset[tuple[str, str]]:
        """Verb and name of everything that its records can restore."""
        return frozenset((u.verb, str(u.args["name"])) for u in self.undo if "name" in u.args)

    def decides(self, undo: Undo) -> bool:
        """Return whether no later run has brought back already what this record names."""
        return (undo.verb, str(undo.args.get("name"))) not in self.decided

    @property
    def halves(self) -> tuple[Undo, ...]:
        return tuple(undo for undo in self.undo if undo.half)

    @property
    def retain(self) -> Retain:
        """The strongest reason to keep the entry: it is kept whole, but for `halves`."""
        return next((u.retain for u in self.undo if u.retain is not Retain.nothing), Retain.nothing)


@dataclass(frozen=True)
class Run:
    id: str
    verb: str
    at: float
    version: str
    settings: dict[str, Any]
    resumes: tuple[str, ...] = ()
    outcome: str = ""  # empty: the run never ended
    retiring: bool = False  # it only removed things that the settings no longer contain

    @property
    def leaves(self) -> bool:
        """Whether it leaves the runs that it continued interrupted, if something of them is there."""
        return self.outcome == "rolled_back" or (self.outcome == "failed" and self.verb == KEEPS)


@dataclass(frozen=True)
class Receipt:
    """The state of the host. `entries`: steps still to revert, oldest first. `runs`: oldest first."""

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
        """Whether there is anything that uninstall would remove."""
        return any(not e.retained for e in self.entries)

    @property
    def unfinished(self) -> tuple[Run, ...]:
        """Runs that changed something and never ended, or ended with `failed`, and that no later run continued."""
        with_entries = {e.run for e in self.entries}
        # A run that went back alone leaves the run that it continued interrupted, and so does an uninstall that failed. Neither
        # finishes an uninstall.
        standing = {e.run for e in self.entries if not e.retained} | self.uninstalls
        continued = {r for run in self.runs for r in run.resumes if not run.leaves or r not in standing}
        return tuple(
            run
            for run in self.runs
            if run.outcome in ("", "failed") and run.id not in continued and (run.id in with_entries or not run.outcome)
        )

    @property
    def last_settings(self) -> dict[str, Any]:
        """Settings of the last successful install, or of the unfinished one; empty without either."""
        for run in reversed(self.runs):
            if run.verb in ("install", "upgrade") and run.settings and run.outcome in ("ok", "", "failed"):
                return run.settings
        return {}

    def with_continued(self, ids: Iterable[str]) -> set[str]:
        """Return these runs, the runs that they continued, and so on. Runs that continue one another are reverted together.

        An uninstall that version 0.2.0 left unfinished ends the way: its runs belong to the good install that came after it."""
        known = {run.id: run for run in self.runs}
        return self._closure(ids, {id: () if self._passed_over(run) else run.resumes for id, run in known.items()})

    def _passed_over(self, run: Run) -> bool:
        """Return whether the first good install after this uninstall did not continue it."""
        if run.verb != KEEPS:
            return False
        later = self.runs[self.runs.index(run) + 1 :]
        good = next((one for one in later if one.verb == "install" and one.outcome == "ok" and not one.retiring), None)
        return good is not None and run.id not in self._closure([good.id], {one.id: one.resumes for one in self.runs})

    @staticmethod
    def _closure(ids: Iterable[str], resumes: Mapping[str, tuple[str, ...]]) -> set[str]:
        found, todo = set[str](), list(ids)
        while todo:
            id = todo.pop()
            if id not in found:
                found.add(id)
                todo += resumes.get(id, ())
        return found

    @property
    def uninstalls(self) -> set[str]:
        """The ids of all uninstalls. A rollback cannot undo them; an install or another uninstall finishes them."""
        return {run.id for run in self.runs if run.verb == KEEPS}

    def undoable(self, ids: set[str]) -> set[str]:
        """Return these runs without those that only go forward."""
        return ids - {run.id for run in self.runs if run.verb in FORWARD_ONLY}

    def of_runs(self, ids: set[str]) -> tuple[Entry, ...]:
        return tuple(e for e in self.entries if e.run in ids)

    def to_undo(self, ids: set[str]) -> tuple[Entry, ...]:
        """Return the entries of these runs that a rollback undoes."""
        return tuple(e for e in self.of_runs(ids) if not e.chosen)

    def created(self, step_id: str) -> bool:
        """Return whether nqr created or modified the thing and has not reverted it."""
        return any(e.step_id == step_id for e in self.entries)


def unfinished_entries(receipt: Receipt) -> Iterable[str]:
    """Return the ids of the runs that `nqr rollback` would undo: the unfinished runs, else the last successful one, each with
    the runs that it continued. A run that only retired things belongs to the run before it. One that an uninstall took back is
    over, also if it kept data. Uninstalls are not among them: after an interrupted one, there are only runs that it took over."""
    unfinished = [run.id for run in receipt.unfinished if not run.retiring]
    if unfinished:
        return receipt.with_continued(unfinished) - receipt.uninstalls
    without_entries: set[str] = set()
    for run in reversed(receipt.runs):
        if run.verb in ("rollback", "uninstall"):
            continue
        together = receipt.with_continued([run.id])
        if run.outcome == "ok" and any(not entry.retained for entry in receipt.of_runs(together)):
            return (together | without_entries) - receipt.uninstalls
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
            chosen = record.run in runs and runs[record.run].verb == KEEPS
            entries[entry.seq] = _replaced(entry, retained=True, chosen=entry.chosen or chosen)
        elif record.type == "undo-failed":
            entries[entry.seq] = _replaced(entry, undo_error=body.get("what", ""))


def _replaced(entry: Entry, **changes: Any) -> Entry:
    return Entry(**{**entry.__dict__, **changes})


def _completed(undos: tuple[Undo, ...], made: dict[str, str]) -> tuple[Undo, ...]:
    """Return the undo records, completed with what is only known after the step."""
    return tuple(
        Undo(undo.verb, {**undo.args, "made": made[str(index)]}, undo.retain) if str(index) in made else undo
        for index, undo in enumerate(undos)
    )
