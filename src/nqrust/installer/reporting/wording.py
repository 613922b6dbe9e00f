"""Sentences and layout shared by the reporters for people. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterator

from nqrust.contract.text import plain
from nqrust.host.secret import without_credentials
from nqrust.installer.engine.errors import NqrError, PreflightRefused
from nqrust.installer.engine.retire import PHASE as RETIRING
from nqrust.installer.request import PhasePreview, PlanPreview, ProofSummary, Summary

_HEADLINES = {
    ("install", "ok"): "NQRust-MicroVM is installed.",
    ("uninstall", "ok"): "NQRust-MicroVM is removed.",
    ("rollback", "ok"): "The host is back to its state before that run.",
    ("verify", "ok"): "The installation works.",
    ("phase", "ok"): "The phase is done.",
    ("rotate", "ok"): "The rotation is complete. VMs, consoles and connections continued.",
    ("rotate", "failed"): "The rotation is not complete. Run the same command again; it continues.",
    ("uninstall", "partly_undone"): "The uninstall is not complete: nqr could not undo everything.",
    ("rollback", "partly_undone"): "The rollback is not complete: nqr could not undo everything.",
    ("rehearsal", "ok"): "The rehearsal succeeded: the install works on a clone of this host. The host was not touched.",
    ("rehearsal", "failed"): "The install failed in the clone. The host was not touched.",
}
_OUTCOMES = {
    "failed": "The {verb} failed. Its changes stay.",
    "rolled_back": "The {verb} failed and was rolled back.",
    "partly_undone": "The {verb} failed, and nqr could not undo all of its changes.",
    "refused": "The {verb} was refused; nothing was touched.",
}
DIFF_LIMIT = 200
"""Maximum lines of one diff; the reporter counts the rest."""


def duration(seconds: float) -> str:
    """Return seconds for people: `0.4 s`, `12 s`, `3 min 5 s`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def counted(number: int, one: str) -> str:
    return f"{number} {one}{'' if number == 1 else 's'}"


def headline(verb: str, summary: Summary) -> str:
    """Return one sentence with the outcome."""
    if verb == "plan" and summary.failure is not None:
        return "No plan: the host or the request does not allow one."
    if verb == "rehearsal" and summary.exit_code == 130:
        return "The rehearsal was interrupted; its clone is gone. The host was not touched."
    if verb == "uninstall" and summary.exit_code == 130:
        return "The uninstall was interrupted. Run the same command again; it continues."
    if summary.exit_code == 130 and summary.outcome == "partly_undone":
        return f"The {verb} was interrupted, and nqr could not undo all of its changes."
    if verb == "rotate" and summary.exit_code == 130:
        return "The rotation was interrupted. Run the same command again; it continues."
    if summary.exit_code == 130 and summary.outcome == "failed" and summary.changed:
        return f"The {verb} is done, but was interrupted during its proofs. Its changes stay."
    if summary.exit_code == 130:
        return f"The {verb} was interrupted and rolled back."
    if verb == "rehearsal" and summary.exit_code not in (0, 4, 10, 130) and summary.rehearsal is not None:
        return _HEADLINES["rehearsal", "failed"]
    if verb == "rehearsal" and summary.exit_code == 4:
        return "The install is done in the clone, but a proof failed. The host was not touched."
    if summary.exit_code == 4:
        return f"The {verb} is done, but a proof failed." if verb != "verify" else "A proof failed."
    if summary.outcome == "ok" and verb in ("install", "rollback", "uninstall", "phase", "rotate") and not summary.phases:
        return "Nothing was changed."
    if summary.outcome == "failed" and not summary.phases and verb != "verify":
        return f"The {verb} did not start; nothing was changed."
    if verb == "install" and summary.outcome == "ok" and not summary.changed:
        return "NQRust-MicroVM is already installed. Nothing had to change."
    known = _HEADLINES.get((verb, summary.outcome))
    return known or _OUTCOMES.get(summary.outcome, "The {verb} is done.").format(verb=verb)


def figures(summary: Summary) -> str:
    """Return counts and time: `12 changed, 34 already so, 1 min 5 s`."""
    return f"{summary.changed} changed, {summary.satisfied} already so, {duration(summary.seconds)}"


def facts(verb: str, summary: Summary) -> list[tuple[str, str]]:
    """Return label and value of the facts that a user needs next."""
    rows: list[tuple[str, str]] = []
    titles = {"ui": "Web UI", "manager": "Manager API", "agent": "Agent"}
    rows += [(titles.get(name, name), url) for name, url in summary.urls.items()]
    if summary.elsewhere:
        rows.append(("Elsewhere", ", ".join(summary.elsewhere.values())))
    if summary.authority:
        rows.append(("Certificate", f"of the authority {summary.authority} (SHA-256)"))
    if summary.admin_password_file:
        rows.append(("Sign in", f"admin; the first password is in {summary.admin_password_file}"))
    if verb == "install" and summary.outcome == "ok" and summary.exit_code == 0 and "manager" in summary.urls:
        rows.append(("Next", "nqr vm create web1 --image tiny"))
    if verb == "install" and summary.exit_code == 4:
        rows.append(("Next", "nqr doctor"))
    if summary.outcome == "failed" and verb == "install" and summary.phases and summary.exit_code == 1:
        rows.append(("Next", "fix the cause, then run the same command again; or: nqr rollback"))
    if summary.outcome == "partly_undone" and verb == "install":
        rows.append(("Next", "fix the cause, then: nqr rollback"))
    if summary.log_path:
        rows.append(("Log", summary.log_path))
    return rows


def error_lines(error: NqrError, told: Container[str] = ()) -> list[str]:
    """Return `CODE  what` and `cure`, for the error and each of its findings. Skips those `told` already (by their what)."""
    if isinstance(error, PreflightRefused) and error.findings:
        lines: list[str] = []
        for finding in error.findings:
            if finding.what in told:
                continue
            lines += [f"{finding.code}  {finding.what}", f"  cure: {finding.cure}"]
        return lines
    return [f"{error.code}  {error.what}", f"  cure: {error.cure}"]


def shown(text: str) -> str:
    """Return `text` for a terminal: without passwords, and without what a terminal executes. Others choose some of its words: a
    guest, a user of the host the name of a program, a release those of its files."""
    return plain(without_credentials(text))


def run_notes(verb: str, summary: Summary) -> list[str]:
    """Return the run's notes that its headline does not contain."""
    return [note for note in summary.notes if note != headline(verb, summary)]


def plan_notes(summary: Summary) -> list[str]:
    """Return the plan's notes that its preview does not contain."""
    said = summary.preview.warnings if summary.preview else ()
    return [note for note in summary.notes if note not in said]


def proof_line(proof: ProofSummary) -> str:
    mark = {"passed": "ok", "failed": "FAILED", "unproven": "unproven"}.get(proof.verdict, proof.verdict)
    detail = f": {proof.detail}" if proof.detail else ""
    return f"{mark:<9} {proof.hop}{detail}"


def plan_lines(preview: PlanPreview, *, diffs: bool = True) -> Iterator[tuple[str, str]]:
    """Yield (style, text) of a plan. Styles: phase, change, conflict, added, removed, context, note, total."""
    if preview.verb in _REMOVING:
        yield from _removal_lines(preview, diffs)
        return
    for phase in preview.phases:
        yield from _phase_lines(phase, diffs)
    for warning in preview.warnings:
        yield "note", warning
    total = f"{counted(preview.changes, 'change')}, {preview.satisfied} already so."
    yield "total", total if preview.changes else f"Nothing to change, {preview.satisfied} already so."


_REMOVING = ("uninstall", "rollback")


def _removal_lines(preview: PlanPreview, details: bool) -> Iterator[tuple[str, str]]:
    for phase in preview.phases:
        yield "phase", f"{phase.title}: {counted(len(phase.changes), 'thing')}"
        for note in phase.notes:
            yield "note", f"  {note}"
        for change in phase.changes:
            yield "change", f"  - {change.describe}"
            for line in change.diff if details else ():
                yield "context", f"      {line}"
    if preview.stays:
        yield "phase", f"What stays: {counted(len(preview.stays), 'thing')}"
        for stay in preview.stays:
            yield "context", f"  = {stay.describe}: {stay.why}"
    for warning in preview.warnings:
        yield "note", warning
    if preview.changes:
        yield "total", f"{counted(preview.changes, 'thing')} to undo. Objects from before nqr are not listed and stay."
    else:
        yield "total", "Nothing to undo."


def _phase_lines(phase: PhasePreview, diffs: bool) -> Iterator[tuple[str, str]]:
    if phase.skipped:
        yield "phase", f"{phase.name}: nothing to do ({phase.skipped})"
        return
    if not phase.changes:
        yield "phase", f"{phase.name}: nothing to change, {phase.satisfied} already so"
    else:
        yield "phase", f"{phase.name}: {counted(len(phase.changes), 'change')}, {phase.satisfied} already so"
    for note in phase.notes:
        yield "note", f"  {note}"
    for change in phase.changes:
        if change.conflict:
            yield "conflict", f"  ! {change.describe}: {change.conflict}"
            continue
        yield "change", f"  {'-' if phase.name == RETIRING else '+'} {change.describe}"
        if not diffs:
            continue
        for line in change.diff[:DIFF_LIMIT]:
            style = "added" if line.startswith("+") else "removed" if line.startswith("-") else "context"
            yield style, f"      {line}"
        if len(change.diff) > DIFF_LIMIT:
            yield "context", f"      … {len(change.diff) - DIFF_LIMIT} more lines"
