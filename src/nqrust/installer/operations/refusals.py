"""Refusals that are known before the first change: exit 3, nothing touched, the same from a plan as from an install."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from nqrust.installer.engine.errors import NqrError, PreflightRefused, ReleaseError, StepFailed
from nqrust.installer.engine.events import Notice, Reporter
from nqrust.installer.engine.runner import RunResult
from nqrust.installer.preflight import unsupported
from nqrust.installer.preflight.findings import Finding, Severity
from nqrust.installer.request import Request


def of_request(request: Request) -> None:
    """Before a release is looked for, which may lie on another machine. Raises PreflightRefused."""
    found = tuple(NqrError(f.code, f.what, f.cure) for f in unsupported.release_source(request.settings))
    if found:
        raise PreflightRefused(found[0].code, found[0].what, found[0].cure, found)


@contextmanager
def told_early() -> Iterator[None]:
    """What gathers facts and describes a release changes nothing, so its failures refuse."""
    try:
        yield
    except (ReleaseError, StepFailed) as error:
        raise PreflightRefused(error.code, error.what, error.cure, (error,)) from error


def of_preview(seen: RunResult) -> None:
    """A plan with a step that something stands in the way of: an install refuses it before its first change."""
    if seen.failure is not None:
        raise PreflightRefused(seen.failure.code, seen.failure.what, seen.failure.cure, (seen.failure,))


def refuse(found: Sequence[Finding], events: Reporter, told: Callable[[], None] = lambda: None) -> None:
    """Tell every finding, then `told`. Raises PreflightRefused where one of them is an error."""
    for finding in found:
        events.emit(Notice(finding.severity.value, finding.what, finding.code, finding.cure))
    errors = tuple(NqrError(f.code, f.what, f.cure) for f in found if f.severity is Severity.error)
    told()
    if errors:
        first = errors[0]
        more = f" ({len(errors) - 1} more above)" if len(errors) > 1 else ""
        raise PreflightRefused(first.code, first.what + more, first.cure, errors)
