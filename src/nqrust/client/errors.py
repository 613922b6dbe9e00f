"""What a call of the manager can end in, other than its answer.

ClientError
├── Unreachable     no answer: refused connection, name not found, timeout, broken answer
├── Refused         an answer with status >= 400; `problem` is what the manager said
└── WaitFailed      the condition waited for did not come true
    └── WaitTimeout     ... within the time given
"""

from __future__ import annotations

from nqrust.contract.problem import Problem


class ClientError(Exception):
    """Base of all. `code` and `cure` are for people: the same form as every other error of the platform."""

    code = "NQR-API-199"
    cure = ""


class Unreachable(ClientError):
    """Nobody answered at `url`."""

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
    """The VM can no longer come to what was waited for."""

    code = "NQR-API-197"


class WaitTimeout(WaitFailed):
    """Not within the time given."""

    code = "NQR-API-196"
