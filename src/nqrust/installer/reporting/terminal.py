"""Reporter for people at a terminal (Rich): phases with a spinner, a bar for known progress, and a calm summary."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nqrust.installer.engine.errors import NqrError
from nqrust.installer.engine.events import (
    Event,
    Notice,
    PhaseFinished,
    PhaseStarted,
    Proof,
    RunFinished,
    RunStarted,
    StepFinished,
    StepProgress,
    StepStarted,
)
from nqrust.installer.reporting import wording
from nqrust.installer.reporting.rehearsal import rehearsal_lines
from nqrust.installer.request import PlanPreview, ProofSummary, Summary

_STYLES = {
    "phase": "bold",
    "change": "green",
    "conflict": "red",
    "added": "green",
    "removed": "red",
    "context": "dim",
    "note": "yellow",
    "total": "bold",
}
_PROOF_STYLES = {"passed": "green", "failed": "red", "unproven": "yellow"}


class _KnownBar(ProgressColumn):
    """A bar, shown only for known progress."""

    def render(self, task: Task) -> RenderableType:
        if task.total is None:
            return Text()
        return ProgressBar(total=task.total, completed=task.completed, width=20)


class TerminalReporter:
    """Reporter for a terminal. `console` writes to it; Rich handles NO_COLOR and TERM=dumb."""

    def __init__(self, console: Console) -> None:
        _load_all_of_rich()
        self._console = console
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._looks_only = False
        self._refused = False
        self._proofs_shown = 0
        self._told: set[str] = set()

    # --- events

    def emit(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            if event.resumed:
                self._print("Resuming the run that was interrupted.", "yellow")
        elif isinstance(event, PhaseStarted):
            self._phase_started(event)
        elif isinstance(event, StepStarted):
            self._now(event.describe)
        elif isinstance(event, StepProgress):
            self._advance(event)
        elif isinstance(event, StepFinished):
            self._step_finished(event)
        elif isinstance(event, PhaseFinished):
            self._phase_finished(event)
        elif isinstance(event, Notice):
            self._notice(event)
        elif isinstance(event, Proof):
            self._proof(ProofSummary(event.hop, event.verdict, event.detail, event.code, event.cure, event.seconds))
        elif isinstance(event, RunFinished):
            self.close()

    def _phase_started(self, event: PhaseStarted) -> None:
        self.close()
        self._looks_only, self._refused = event.steps == 0, False
        if event.skipped:
            return
        self._progress = Progress(
            SpinnerColumn("dots" if self._console.encoding.startswith("utf") else "line", style="cyan"),
            TextColumn("[bold]{task.fields[phase]:<10}[/bold]"),
            TextColumn("{task.description}", style="dim", markup=False),
            _KnownBar(),
            console=self._console,
            transient=True,
        )
        self._progress.start()
        self._task = self._progress.add_task(event.title, total=None, phase=event.name)

    def _now(self, text: str) -> None:
        if self._progress is not None and self._task is not None:
            text = wording.shown(text)
            room = max(20, self._console.width - 40)
            shown = text if len(text) <= room else text[: room - 1] + "…"
            self._progress.reset(self._task, total=None, description=shown)

    def _advance(self, event: StepProgress) -> None:
        if self._progress is None or self._task is None:
            return
        if event.fraction is not None:
            self._progress.update(self._task, total=1.0, completed=max(0.0, min(1.0, event.fraction)))

    def _step_finished(self, event: StepFinished) -> None:
        note = f" ({event.note})" if event.note else ""
        if event.outcome in ("failed", "conflict", "undo-failed"):
            self._print(f"  ! {event.describe}{note}", "red")
        elif event.outcome == "undone":
            self._print(f"  - {event.describe}{note}", "dim")
        elif event.outcome == "kept":
            self._print(f"  = kept: {event.describe}{note}", "yellow")

    def _phase_finished(self, event: PhaseFinished) -> None:
        self.close()
        line = Text()
        line.append(*(("  ✗ ", "red") if self._refused else ("  ✓ ", "green")))
        line.append(f"{event.name:<11}", style="bold")
        unchanged = "refused" if self._refused else "checked" if self._looks_only else "nothing to change"
        changed = f"{event.changed} changed" if event.changed else unchanged
        line.append(f"{changed:<20}", style="" if event.changed else "dim")
        line.append(wording.duration(event.seconds), style="dim")
        self._console.print(line)

    def _notice(self, event: Notice) -> None:
        style = {"warning": "yellow", "error": "red"}.get(event.severity, "dim")
        code = f"{event.code}  " if event.code else ""
        self._told.add(event.text)
        self._refused = self._refused or event.severity == "error"
        self._print(f"  {code}{event.text}", style)
        if event.cure:
            self._print(f"    cure: {event.cure}", "dim")

    def _proof(self, proof: ProofSummary) -> None:
        self._proofs_shown += 1
        self._print(f"  {wording.proof_line(proof)}", _PROOF_STYLES.get(proof.verdict, ""))
        if proof.cure and proof.verdict != "passed":
            self._print(f"    {proof.code}  cure: {proof.cure}", "dim")

    # --- the rest of Display

    def plan(self, preview: PlanPreview, *, diffs: bool = True) -> None:
        self.close()
        for style, text in wording.plan_lines(preview, diffs=diffs):
            self._print(text, _STYLES[style])

    def note(self, text: str) -> None:
        self._print(text, "dim")

    def summary(self, verb: str, summary: Summary) -> None:
        self.close()
        if summary.preview is not None and summary.failure is None:
            self.plan(summary.preview)
            for note in wording.plan_notes(summary):
                self.note(note)
            return
        if not self._proofs_shown:
            for proof in summary.proofs:
                self._proof(proof)
        if summary.failure is not None:
            self._error(summary.failure)
        if summary.rehearsal is not None:
            self._console.print()
            for style, text in rehearsal_lines(summary.rehearsal, summary):
                self._print(text, _STYLES[style])
        good = summary.outcome == "ok" and summary.exit_code == 0
        self._console.print()
        self._print(wording.headline(verb, summary), "bold green" if good else "bold red")
        self._print(wording.figures(summary), "dim")
        for note in wording.run_notes(verb, summary):
            self._print(note, "yellow")
        rows = wording.facts(verb, summary)
        width = max((len(label) for label, _ in rows), default=0)
        for label, value in rows:  # a table would cut an address or a path on a narrow terminal
            line = Text.assemble((f"  {label:<{width}}  ", "dim"), wording.shown(value))
            self._console.print(line, soft_wrap=True)

    def failure(self, error: NqrError, log_path: str = "") -> None:
        self.close()
        self._error(error)
        if log_path:
            self._print(f"  log: {log_path}", "dim")

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = self._task = None

    def _error(self, error: NqrError) -> None:
        for line in wording.error_lines(error, self._told):
            self._print(line, "dim" if line.startswith("  cure") else "red")

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(Text(wording.shown(text), style=style), soft_wrap=True)


def _load_all_of_rich() -> None:
    """Load Rich completely: it loads parts on first use, and an uninstall removes its files before the summary."""
    table = Table.grid(padding=(0, 2))
    table.add_row(Text("warm", style="dim"), Text("–✓…", style="bold red"))
    Console(file=io.StringIO(), force_terminal=True).print(table, Text("", style="green"), soft_wrap=True)
