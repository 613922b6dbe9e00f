"""Carries out a plan, write-ahead: the journal durably records each change before the step makes it.

    inspect -> prepare -> journal `begin` (fsync) -> apply -> verify -> journal `done` (fsync)

A failure rolls back the changes of this run, and of the unfinished runs that it continues, unless an option keeps them.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from nqrust.host.errors import HostError
from nqrust.host.port import Host
from nqrust.installer.engine.at_once import in_order
from nqrust.installer.engine.errors import Interrupted, JournalError, NqrError, StepConflict, StepFailed
from nqrust.installer.engine.events import (
    Notice,
    NullReporter,
    PhaseFinished,
    PhaseStarted,
    Reporter,
    RunFinished,
    RunStarted,
    StepFinished,
    StepStarted,
)
from nqrust.installer.engine.failures import conflict, unforeseen, wrapped
from nqrust.installer.engine.interrupt import Interruption
from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.plan import PhasePlan, Plan
from nqrust.installer.engine.receipt import FORWARD_ONLY, KEEPS, Receipt
from nqrust.installer.engine.retire import PHASE, Retired, preview_retiring, retire
from nqrust.installer.engine.rollback import RollbackResult, roll_back
from nqrust.installer.engine.spared import NOTHING_SPARED, Spared
from nqrust.installer.engine.step import Conflict, Needed, Satisfied, Step
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.engine.verb import UndoContext, Verbs


@dataclass
class PhaseResult:
    name: str
    changed: int = 0
    satisfied: int = 0
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "changed": self.changed,
            "satisfied": self.satisfied,
            "seconds": round(self.seconds, 3),
        }


@dataclass
class RunResult:
    """The result of a run. `outcome`: ok | refused | failed | rolled_back. `failure`: the error that stopped it; `rollback`:
    the result of rolling back."""

    run: str
    outcome: str = "ok"
    changed: int = 0
    satisfied: int = 0
    seconds: float = 0.0
    phases: list[PhaseResult] = field(default_factory=list)
    failure: NqrError | None = None
    rollback: RollbackResult | None = None
    resumed: bool = False
    retired: Retired = field(default_factory=Retired)


def new_run_id() -> str:
    return uuid.uuid4().hex[:12]


@dataclass
class Runner:
    """Executes one run at a time on `host`. The caller holds the lock."""

    verbs: Verbs
    host: Host
    journal: Journal
    originals: Originals
    events: Reporter
    interruption: Interruption = field(default_factory=Interruption)
    keep_on_failure: bool = False
    forward_only: bool = False
    """Nothing goes back, not even after an interruption: a second run finishes it."""
    spared: Spared = NOTHING_SPARED
    """A failure leaves these. If an earlier run holds something of users, it stays whole."""
    before_first_change: Callable[[], None] = lambda: None
    """Called once, before the first record of an empty journal."""
    _in_hand: str = field(default="", init=False)

    def preview(self, plan: Plan, *, retiring: bool = False) -> RunResult:
        """Inspect every step and change nothing: what `run` would do now, as far as it can be known."""
        result = RunResult("preview")
        began = self.host.monotonic()
        inspected = in_order(self._inspect, [step for phase in plan.phases for step in phase.steps])
        for phase in plan.phases:
            outcome = self._phase_started(phase)
            for step in phase.steps:
                found = next(inspected)
                if isinstance(found, Conflict):
                    self.events.emit(StepFinished(phase.name, step.id, step.kind, step.describe(), "conflict", note=found.why))
                    result.failure = result.failure or conflict(found)
                elif isinstance(found, Needed):
                    outcome.changed += 1
                    self.events.emit(
                        StepFinished(phase.name, step.id, step.kind, step.describe(), "would-change", diff=found.diff)
                    )
                else:
                    outcome.satisfied += 1
                    self.events.emit(StepFinished(phase.name, step.id, step.kind, step.describe(), "satisfied", note=found.note))
            self._phase_finished(outcome, result, began)
        if retiring:
            result.changed += preview_retiring(
                self.verbs, self.host, Receipt.of(self.journal), plan, self.events, changing=result.changed > 0
            )
        result.seconds = self.host.monotonic() - began
        return result

    def run(
        self, plan: Plan, verb: str, version: str, settings: dict[str, Any], *, retiring: bool = False, part: bool = False
    ) -> RunResult:
        """Bring the host to the plan. Writes no journal if nothing needs a change. `retiring`: the plan is complete, so steps
        missing from it are removed after everything else is done. `part`: of a plan, which does not finish a run that it continues.
        Never raises NqrError: see `failure`."""
        receipt = Receipt.of(self.journal)
        continued = {verb, "rollback", *((KEEPS, *FORWARD_ONLY) if verb == "install" else ())}
        cut_off = receipt.with_continued(run.id for run in receipt.unfinished if run.verb in continued)
        resumes = tuple(run.id for run in receipt.runs if run.id in cut_off)
        result = RunResult(new_run_id(), resumed=bool(cut_off - receipt.uninstalls))
        self.events.emit(RunStarted(result.run, verb, result.resumed, sum(len(p.steps) for p in plan.phases)))
        head = {"verb": verb, "version": version, "settings": settings, "resumes": list(resumes)}
        opened = bool(resumes)
        if opened:
            self.journal.append("run", result.run, **head)
        began = self.host.monotonic()
        try:
            for phase in plan.phases:
                outcome = self._phase_started(phase)
                for step in phase.steps:
                    self._in_hand = step.describe()
                    self.interruption.check()
                    self.journal.require_room()
                    found = self._inspect(step)
                    if isinstance(found, Conflict):
                        raise conflict(found)
                    if isinstance(found, Satisfied):
                        outcome.satisfied += 1
                        self._finish_open(step, receipt, result.run)
                        self.events.emit(
                            StepFinished(phase.name, step.id, step.kind, step.describe(), "satisfied", note=found.note)
                        )
                        continue
                    if not opened:
                        self._look_ahead(plan, step)
                        if not self.journal.records:
                            self._before_first_change()
                        self.journal.append("run", result.run, **head)
                        opened = True
                    self._change(phase, step, found, result.run)
                    outcome.changed += 1
                self._phase_finished(outcome, result, began)
            self.interruption.check()
        except NqrError as error:
            result.failure = self.interruption.instead_of(error)
        except Exception as error:  # a bug in nqr must not leave a half-changed host
            result.failure = unforeseen(self._in_hand, error)
        result.seconds = self.host.monotonic() - began
        if result.failure is not None:
            self._failed(result, {result.run, *receipt.undoable(set(resumes))}, opened)
        else:
            if opened and not (part and resumes):
                self.journal.append("end", result.run, outcome="ok")
            if retiring:
                self._retire(result, plan, verb, version, settings)
        self.events.emit(
            RunFinished(
                result.outcome,
                result.changed,
                result.satisfied,
                result.seconds,
                tuple(p.to_json() for p in result.phases),
            )
        )
        return result

    def _retire(self, result: RunResult, plan: Plan, verb: str, version: str, settings: dict[str, Any]) -> None:
        """Retire orphans. From here on the run only goes forward: see engine/retire.py."""
        try:
            retired = retire(self.verbs, self.host, self.journal, self.originals, new_run_id(), version, plan, self.events)
        except NqrError as error:  # the journal cannot be written
            result.failure, result.outcome = error, "failed"
            return
        result.retired = retired
        if retired.gone:
            result.changed += len(retired.gone)
            result.seconds += retired.seconds
            result.phases.append(PhaseResult(PHASE, len(retired.gone), 0, retired.seconds))
        if retired.failed:
            result.outcome = "failed"
            result.failure = StepFailed(
                "NQR-ENG-005",
                f"nqr installed everything, but could not remove all parts that are no longer in the settings: {retired.failed[0]}.",
                "Fix the cause and run the same command again. nqr keeps a record of the rest.",
            )
        elif retired.gone:
            # A retired thing may have been part of the plan (a step with another id). Run the plan once more, as the next run
            # would.
            again = replace(self, events=NullReporter()).run(plan, verb, version, settings)
            result.changed += again.changed
            if again.failure is not None:
                result.failure, result.outcome = again.failure, "failed"

    # --- one step

    def _look_ahead(self, plan: Plan, first: Step) -> None:
        """Check before the first change that nothing is in the way of a later step. A conflict refuses the run while the host
        is untouched. Checks that are not possible yet happen at the step's turn. Raises StepConflict."""
        steps = [step for phase in plan.phases for step in phase.steps]
        for step in steps[steps.index(first) + 1 :]:
            try:
                found = step.inspect(self.host)
            except (HostError, NqrError):
                continue
            if isinstance(found, Conflict):
                raise conflict(found)

    def _inspect(self, step: Step) -> Satisfied | Needed | Conflict:
        try:
            return step.inspect(self.host)
        except HostError as error:
            raise wrapped(step, error, "could not be inspected") from error

    def _change(self, phase: PhasePlan, step: Step, found: Needed, run: str) -> None:
        describe = step.describe()
        self.events.emit(StepStarted(phase.name, step.id, step.kind, describe))
        began = self.host.monotonic()
        try:
            prepared = step.prepare(self.host)
            undo = [self.verbs.capture(self.originals, u) for u in prepared.undo]
            self._tell_replaced(undo)
            begin = self.journal.append(
                "begin",
                run,
                step={"id": step.id, "kind": step.kind, "phase": phase.name, "describe": describe},
                origin=prepared.origin.value,
                undo=[u.to_json() for u in undo],
            )
            self.journal.require_room()
            step.apply(self.host)
            step.verify(self.host)
            self._done(run, begin.seq, undo)
            self._finish_open(step, Receipt.of(self.journal), run)
        except HostError as error:
            self._tell_failure(phase, step, began)
            raise wrapped(step, error, "failed") from error
        except Exception:
            self._tell_failure(phase, step, began)
            raise
        self.events.emit(
            StepFinished(
                phase.name,
                step.id,
                step.kind,
                describe,
                "changed",
                self.host.monotonic() - began,
                diff=found.diff,
            )
        )

    def _tell_failure(self, phase: PhasePlan, step: Step, began: float) -> None:
        seconds = self.host.monotonic() - began
        self.events.emit(StepFinished(phase.name, step.id, step.kind, step.describe(), "failed", seconds))

    def _tell_replaced(self, undos: Sequence[Undo]) -> None:
        """Report each file or link that existed at a path before nqr and is replaced."""
        ours = {undo.args.get("path") for entry in Receipt.of(self.journal).entries for undo in entry.undo}
        for undo in undos:
            path = undo.args.get("path")
            if self.verbs.any((undo,), lambda verb: verb.replaces) and undo.args.get("prior") is not None and path not in ours:
                self.events.emit(
                    Notice(
                        "warning",
                        f"{path} was there before; it is replaced, kept, and put back at uninstall.",
                        "NQR-ENG-016",
                        "Read `nqr plan` before an install to see what it would replace; `nqr uninstall` gives it back.",
                    )
                )

    def _finish_open(self, step: Step, receipt: Receipt, run: str) -> None:
        """Mark a step done that was interrupted between `begin` and `done` and turns out complete."""
        for entry in receipt.entries:
            if entry.step_id == step.id and not entry.done:
                self._done(run, entry.seq, entry.undo)

    def _done(self, run: str, seq: int, undo: Sequence[Undo]) -> None:
        made = self.verbs.conclude(self.originals, undo)
        self.journal.append("done", run, entry=seq, **({"made": made} if made else {}))

    # --- phases and failure

    def _phase_started(self, phase: PhasePlan) -> PhaseResult:
        self.events.emit(PhaseStarted(phase.name, phase.title, len(phase.steps), phase.skipped))
        for note in phase.notes:
            self.events.emit(Notice("info", note))
        return PhaseResult(phase.name)

    def _phase_finished(self, outcome: PhaseResult, result: RunResult, began: float) -> None:
        so_far = sum(p.seconds for p in result.phases)
        outcome.seconds = self.host.monotonic() - began - so_far
        result.phases.append(outcome)
        result.changed += outcome.changed
        result.satisfied += outcome.satisfied
        self.events.emit(PhaseFinished(outcome.name, outcome.changed, outcome.satisfied, outcome.seconds))

    def _failed(self, result: RunResult, runs: set[str], opened: bool) -> None:
        failure = result.failure
        assert failure is not None
        if not opened:
            result.outcome = "refused" if isinstance(failure, StepConflict) else "failed"
            return
        try:
            self._go_back(result, runs, failure)
        except JournalError as error:
            # The rollback cannot be recorded (the disk is completely full): a later run repeats the recorded part.
            self.events.emit(Notice("error", error.what, error.code, error.cure))
            result.outcome = "failed"

    def take_back(self, result: RunResult, failure: NqrError) -> None:
        """Undo a successful run, and those that it continued, because of a later failure. A run without changes has nothing
        to undo."""
        result.failure = failure
        receipt = Receipt.of(self.journal)
        self._failed(
            result, receipt.undoable(receipt.with_continued([result.run])), any(r.id == result.run for r in receipt.runs)
        )

    def _go_back(self, result: RunResult, runs: set[str], failure: NqrError) -> None:
        with suppress(JournalError) if isinstance(failure, JournalError) else nullcontext():
            self.journal.append("failed", result.run, code=failure.code, what=failure.what, cure=failure.cure)
        if self.forward_only or (self.keep_on_failure and not isinstance(failure, Interrupted)):
            self.journal.append("end", result.run, outcome="failed")
            result.outcome = "failed"
            return
        runs, back = self._going_back(result.run, runs)
        self.events.emit(Notice("warning", f"{failure.what} {back}", failure.code, failure.cure))
        result.rollback = roll_back(
            self.verbs,
            UndoContext(self.host, self.originals, needed_packages=self.spared.packages()),
            self.journal,
            result.run,
            Receipt.of(self.journal).to_undo(runs),
            self.events,
            spared=self.spared,
        )
        result.changed = 0
        result.outcome = "rolled_back" if not result.rollback.failed else "failed"
        self.journal.append("end", result.run, outcome=result.outcome)

    def _going_back(self, own: str, runs: set[str]) -> tuple[set[str], str]:
        """Return the runs of `runs` that go back, and a sentence about that. Since an earlier one, somebody may have used what it
        made, although it never ended."""
        receipt = Receipt.of(self.journal)
        self.spared.of_users(receipt.to_undo(runs))  # before anything stops
        theirs = self.spared.of_users(receipt.to_undo(runs - {own}))
        if not theirs:
            return runs, "Going back to how the host was."
        return {
            own
        }, f"Going back to how the host was before this run. Earlier runs stay, because users have {', '.join(theirs)}."

    def _before_first_change(self) -> None:
        try:
            self.before_first_change()
        except HostError as error:
            raise StepFailed(
                "NQR-ENG-013",
                f"The state of this host before the install cannot be kept: {error}.",
                "Free space on the file system of /var/lib, make it writable and run the same command again; nothing was"
                " changed.",
            ) from error
