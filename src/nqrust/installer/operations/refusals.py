"""Refusals before the first change: exit 3, nothing changed. A plan refuses exactly as an install does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from nqrust.installer.engine.errors import NqrError, PreflightRefused, ReleaseError, StepFailed, UsageError
from nqrust.installer.engine.events import Notice, Reporter
from nqrust.installer.engine.receipt import Receipt
from nqrust.installer.engine.runner import RunResult
from nqrust.installer.preflight import unsupported
from nqrust.installer.preflight.findings import Finding, Severity
from nqrust.installer.request import Request


def of_request(request: Request) -> None:
    """Check the request before the search for a release, which may be on another machine. Raises PreflightRefused."""
    found = tuple(NqrError(f.code, f.what, f.cure) for f in unsupported.release_source(request.settings))
    if found:
        raise PreflightRefused(found[0].code, found[0].what, found[0].cure, found)


@contextmanager
def told_early() -> Iterator[None]:
    """Turn failures into refusals while nqr gathers facts and describes a release, which changes nothing."""
    try:
        yield
    except (ReleaseError, StepFailed) as error:
        raise PreflightRefused(error.code, error.what, error.cure, (error,)) from error


def of_rotation(receipt: Receipt, ids: Collection[str]) -> None:
    """Refuse to undo runs of which one is a rotation: its old secrets are known to nobody any more. Raises UsageError."""
    if receipt.undoable(set(ids)) != set(ids):
        raise UsageError(
            "NQR-USE-024",
            "The last run replaced secrets, and nqr does not bring old secrets back.",
            "If it was interrupted, finish it with `nqr rotate` or `nqr install`. `nqr uninstall` removes the platform.",
        )


def of_users(theirs: Sequence[str]) -> None:
    """Refuse a rollback that would take along what users have here. Raises UsageError."""
    if theirs:
        raise UsageError(
            "NQR-USE-030",
            f"Users have put something into what that run made: {', '.join(theirs)}. A rollback does not take that along.",
            "Run `nqr install` to finish a run that was interrupted. `nqr uninstall` removes the platform, and keeps VM disks,"
            " images and the database unless options say otherwise.",
        )


def of_preview(seen: RunResult) -> None:
    """Refuse a plan with a blocked step before the install's first change. Raises PreflightRefused."""
    if seen.failure is not None:
        raise PreflightRefused(seen.failure.code, seen.failure.what, seen.failure.cure, (seen.failure,))


def refuse(found: Sequence[Finding], events: Reporter, told: Callable[[], None] = lambda: None) -> None:
    """Report every finding, then call `told`. Raises PreflightRefused if a finding is an error."""
    for finding in found:
        events.emit(Notice(finding.severity.value, finding.what, finding.code, finding.cure))
    errors = tuple(NqrError(f.code, f.what, f.cure) for f in found if f.severity is Severity.error)
    told()
    if errors:
        first = errors[0]
        more = f" ({len(errors) - 1} more above)" if len(errors) > 1 else ""
        raise PreflightRefused(first.code, first.what + more, first.cure, errors)
