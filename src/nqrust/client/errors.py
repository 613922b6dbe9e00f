"""Errors of calls to the manager.

ClientError
├── Unreachable     no answer: refused connection, name not found, timeout, broken answer
├── Refused         an answer with status >= 400; `problem` is the manager's error
└── WaitFailed      the condition of a wait was not met
    └── WaitTimeout     ... within the timeout
"""

from __future__ import annotations

from nqrust.contract.problem import Problem


class ClientError(Exception):
    """Base of all. `code` and `cure` are for people, as in every other error of the platform."""

    code = "NQR-API-199"
    cure = ""


class Unreachable(ClientError):
    """No answer from `url`."""

    code = "NQR-API-198"

    def __init__(self, url: str, reason: str) -> None:
        self.url, self.reason = url, reason
        self.cure = "Check that nqrust-manager.service is active and that the address is right."
        super().__init__(f"The manager at {url} does not answer: {reason}")


class Refused(ClientError):
    """The manager answered with an error. `status` is the HTTP status (RFC 9110)."""

    def __init__(self, status: int, problem: Problem) -> None:
        self.status, self.problem = status, problem
        self.code = problem.code or "NQR-API-199"
        self.cure = problem.cure
        super().__init__(problem.detail or problem.title)


class WaitFailed(ClientError):
    """The VM can no longer meet the condition."""

    code = "NQR-API-197"


class WaitTimeout(WaitFailed):
    """The condition was not met within the timeout."""

    code = "NQR-API-196"
