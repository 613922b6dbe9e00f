"""Plain lines for pipes, files and simple terminals. One line for each event as it happens."""

from __future__ import annotations

from typing import TextIO

from nqrust.installer.engine.errors import NqrError
from nqrust.installer.engine.events import (
    Event,
    Notice,
    PhaseFinished,
    PhaseStarted,
    Proof,
    RunStarted,
    StepFinished,
    StepProgress,
    StepStarted,
)
from nqrust.installer.reporting import wording
from nqrust.installer.reporting.rehearsal import rehearsal_lines
from nqrust.installer.request import PlanPreview, ProofSummary, Summary

_MARKS = {
    "changed": "+",
    "would-change": "+",
    "conflict": "!",
    "failed": "!",
    "undone": "-",
    "kept": "=",
    "undo-failed": "!",
}


class PlainReporter:
    """Reporter for plain text. `out` for events, `err` for errors."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out, self._err = out, err
        self._proofs_shown = 0
        self._told: set[str] = set()
        self._looks_only = False

    def emit(self, event: Event) -> None:
        complaint = isinstance(event, Notice) and event.severity == "error"
        for line in self._lines(event):
            if complaint:
                self._complain(line)
            else:
                self._say(line)

    def _lines(self, event: Event) -> list[str]:
        if isinstance(event, RunStarted):
            return [f"{event.verb}: resuming the interrupted run"] if event.resumed else []
        if isinstance(event, PhaseStarted):
            self._looks_only = event.steps == 0
            return [f"{event.name}: {event.title}" + (f" (skipped: {event.skipped})" if event.skipped else "")]
        if isinstance(event, StepStarted):
            return [f"  … {event.describe}"]
        if isinstance(event, StepProgress):
            # No bar is visible here, so the reporter names each cause of a wait once.
            if not event.text.startswith("waiting for") or event.text in self._told:
                return []
            self._told.add(event.text)
            return [f"    {event.text}"]
        if isinstance(event, StepFinished):
            mark = _MARKS.get(event.outcome)
            if mark is None:
                return []
            note = f" ({event.note})" if event.note else ""
            took = f" [{wording.duration(event.seconds)}]" if event.seconds >= 1 else ""
            return [f"  {mark} {event.describe}{note}{took}"]
        if isinstance(event, PhaseFinished):
            took = wording.duration(event.seconds)
            if self._looks_only:
                return [f"  {event.name}: checked, {took}"]
            return [f"  {event.name}: {event.changed} changed, {event.satisfied} already so, {took}"]
        if isinstance(event, Notice):
            code = f"{event.code}  " if event.code else ""
            self._told.add(event.text)
            word = "" if event.severity == "info" else f"{event.severity}: "
            return [f"  {word}{code}{event.text}", *([f"    cure: {event.cure}"] if event.cure else [])]
        if isinstance(event, Proof):
            self._proofs_shown += 1
            proof = ProofSummary(event.hop, event.verdict, event.detail, event.code, event.cure, event.seconds)
            cure = [f"    {event.code}  cure: {event.cure}"] if event.cure and event.verdict != "passed" else []
            return [f"  {wording.proof_line(proof)}", *cure]
        return []

    def plan(self, preview: PlanPreview, *, diffs: bool = True) -> None:
        for _, text in wording.plan_lines(preview, diffs=diffs):
            self._say(text)

    def note(self, text: str) -> None:
        self._say(f"note: {text}")

    def summary(self, verb: str, summary: Summary) -> None:
        if summary.preview is not None and summary.failure is None:
            self.plan(summary.preview)
            for note in wording.plan_notes(summary):
                self.note(note)
            return
        if not self._proofs_shown:
            for proof in summary.proofs:
                self._say(f"  {wording.proof_line(proof)}")
        if summary.failure is not None:
            for line in wording.error_lines(summary.failure, self._told):
                self._complain(line)
        if summary.rehearsal is not None:
            self._say("")
            for _, text in rehearsal_lines(summary.rehearsal, summary):
                self._say(text)
        self._say("")
        self._say(f"{wording.headline(verb, summary)} ({wording.figures(summary)})")
        for note in wording.run_notes(verb, summary):
            self.note(note)
        rows = wording.facts(verb, summary)
        width = max((len(label) for label, _ in rows), default=0)
        for label, value in rows:
            self._say(f"  {label:<{width}}  {value}")

    def failure(self, error: NqrError, log_path: str = "") -> None:
        for line in wording.error_lines(error):
            self._complain(line)
        if log_path:
            self._complain(f"  log: {log_path}")

    def close(self) -> None:
        return None

    def _say(self, line: str) -> None:
        _write(self._out, line)

    def _complain(self, line: str) -> None:
        _write(self._out, "", newline=False)
        _write(self._err, line)


def _write(stream: TextIO, line: str, *, newline: bool = True) -> None:
    """Write a line. A closed reader (EPIPE) or a full disk must not end the run."""
    try:
        stream.write(wording.shown(line) + ("\n" if newline else ""))
        stream.flush()
    except (OSError, ValueError):
        return
