"""JSON lines: standard output carries one object a line and nothing else; the last one has `type` `summary`.

Every event becomes an object: `type` is the event's name in snake_case, the other keys are its fields. `run_finished` is
omitted, because the summary contains it.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from typing import Any, TextIO

from nqrust.host.secret import without_credentials
from nqrust.installer.engine.errors import NqrError, PreflightRefused
from nqrust.installer.engine.events import Event, RunFinished
from nqrust.installer.rehearsed import as_document
from nqrust.installer.request import PlanPreview, Summary


def event_name(kind: type[Event]) -> str:
    """Return an event's name: `StepStarted` -> `step_started`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


def event_object(event: Event) -> dict[str, Any]:
    return {"type": event_name(type(event)), **dataclasses.asdict(event)}


def error_object(error: NqrError) -> dict[str, Any]:
    shown: dict[str, Any] = {"code": error.code, "what": error.what, "cure": error.cure}
    if isinstance(error, PreflightRefused) and error.findings:
        shown["findings"] = [error_object(finding) for finding in error.findings]
    return shown


def summary_object(summary: Summary) -> dict[str, Any]:
    """Return the contract's keys first, then the others that are not empty."""
    shown: dict[str, Any] = {
        "type": "summary",
        "outcome": summary.outcome,
        "changed": summary.changed,
        "satisfied": summary.satisfied,
        "phases": [{"name": p.name, "changed": p.changed, "seconds": round(p.seconds, 3)} for p in summary.phases],
        "seconds": round(summary.seconds, 3),
        "urls": dict(summary.urls),
        "exit_code": summary.exit_code,
    }
    if summary.elsewhere:
        shown["elsewhere"] = dict(summary.elsewhere)
    if summary.authority:
        shown["authority"] = summary.authority
    if summary.failure is not None:
        shown["error"] = error_object(summary.failure)
    if summary.proofs:
        shown["proofs"] = [dataclasses.asdict(proof) for proof in summary.proofs]
    if summary.notes:
        shown["notes"] = list(summary.notes)
    if summary.admin_password_file:
        shown["admin_password_file"] = summary.admin_password_file
    if summary.rehearsal is not None:
        shown["rehearsal"] = as_document(summary.rehearsal)
    if summary.log_path:
        shown["log"] = summary.log_path
    return shown


class JsonLinesReporter:
    """Reporter for programs. Writes to `out`, and nothing after the summary. `now`: returns UTC time as text; None omits
    times."""

    def __init__(self, out: TextIO, now: Callable[[], str] | None = None) -> None:
        self._out, self._now, self._over = out, now, False

    def emit(self, event: Event) -> None:
        if not isinstance(event, RunFinished):
            self._write(event_object(event))

    def plan(self, preview: PlanPreview, *, diffs: bool = True) -> None:
        self._write({"type": "plan", **dataclasses.asdict(preview), "changes": preview.changes})

    def note(self, text: str) -> None:
        self._write({"type": "notice", "severity": "info", "text": text, "code": "", "cure": ""})

    def summary(self, verb: str, summary: Summary) -> None:
        if summary.preview is not None:
            self.plan(summary.preview)
        self._write(summary_object(summary))
        self._over = True

    def failure(self, error: NqrError, log_path: str = "") -> None:
        outcome = "refused" if error.exit_code in (2, 3) else "failed"
        self.summary("", Summary(outcome, error.exit_code, failure=error, log_path=log_path))  # type: ignore[arg-type]

    def close(self) -> None:
        return None

    def _write(self, shown: dict[str, Any]) -> None:
        if self._over:
            return
        if self._now is not None:
            shown = {**shown, "at": self._now()}
        try:
            self._out.write(without_credentials(json.dumps(shown, default=str)) + "\n")
            self._out.flush()
        except (OSError, ValueError):
            return
