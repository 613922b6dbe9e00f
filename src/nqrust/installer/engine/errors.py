"""The installer's error tree. Every error that can reach a user has a stable code, what happened, and the cure.

NqrError
├── UsageError          exit 2   bad flag, bad configuration; nothing touched
├── PreflightRefused    exit 3   the host is not fit; nothing touched
├── StepFailed          exit 5/1 a step could not do its work
├── StepConflict        exit 3/5/1 something that nqr does not own is in the way; 3 before the first change
├── VerifyFailed        exit 4   installed, but a proof failed
├── Locked              exit 1   another nqr holds the lock
├── JournalError        exit 1   the journal is damaged, or from a newer nqr
├── ReleaseError        exit 1/5 a release, artifact or signature is invalid
└── Interrupted         exit 130 a signal stopped nqr

docs/troubleshooting.md lists the codes; a test compares the two.
"""

from __future__ import annotations


class NqrError(Exception):
    """Base of all errors. `code` like NQR-NET-101, `what` one sentence, `cure` one sentence; `exit_code` as in the CLI
    contract."""

    exit_code = 1

    def __init__(self, code: str, what: str, cure: str) -> None:
        self.code, self.what, self.cure = code, what, cure
        super().__init__(f"{code}: {what}")


class UsageError(NqrError):
    exit_code = 2


class PreflightRefused(NqrError):
    """The host is not fit. `findings` holds every failed check, each with its own code, what and cure."""

    exit_code = 3

    def __init__(self, code: str, what: str, cure: str, findings: tuple[NqrError, ...] = ()) -> None:
        super().__init__(code, what, cure)
        self.findings = findings


class StepFailed(NqrError):
    exit_code = 5


class StepConflict(StepFailed):
    pass


class VerifyFailed(NqrError):
    exit_code = 4


class Locked(NqrError):
    pass


class JournalError(NqrError):
    pass


class ReleaseError(NqrError):
    pass


class Interrupted(NqrError):
    exit_code = 130
