"""The result type of checks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Severity(str, Enum):
    error = "error"  # refuses the install, unless its code is ignored
    warning = "warning"  # only reported
    info = "info"


@dataclass(frozen=True)
class Finding:
    """The result of a check. `what` and `cure` are one sentence each; `code` is stable."""

    severity: Severity
    code: str
    what: str
    cure: str = ""


def error(code: str, what: str, cure: str) -> Finding:
    return Finding(Severity.error, code, what, cure)


def warning(code: str, what: str, cure: str = "") -> Finding:
    return Finding(Severity.warning, code, what, cure)


def info(code: str, what: str) -> Finding:
    return Finding(Severity.info, code, what)
