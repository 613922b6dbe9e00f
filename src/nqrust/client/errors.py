"""Errors of calls to the manager.

ClientError
├── Unreachable     no answer: refused connection, name not found, timeout
│   └── NotAManager the answer is of another program
├── NoName          the name of a thing is empty; nothing was sent
├── Refused         an answer with status >= 400; `problem` is the manager's error
└── WaitFailed      the condition of a wait was not met
    └── WaitTimeout     ... within the timeout

AgentClientError    of calls to an agent; client.agent has its kinds
"""

from __future__ import annotations

from nqrust.contract.problem import Problem
from nqrust.contract.text import argument


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


class NotAManager(Unreachable):
    """Something answered, but not in the manager's terms."""

    code = "NQR-USE-043"

    def __init__(self, url: str, status: int, kind: str) -> None:
        super().__init__(url, f"status {status}, {kind or 'no content type'}")
        self.args = (f"{url} answers, but not as a manager does ({self.reason}).",)
        self.cure = "Check that the address is the manager's. A newer manager needs a newer nqr."


class NoName(ClientError):
    """A name is empty, or a dot segment. Its address would be that of the list, or of something else."""

    code = "NQR-USE-042"
    cure = "Give a name. The `ls` command lists them."

    def __init__(self, what: str) -> None:
        super().__init__(what)


class Refused(ClientError):
    """The manager answered with an error. `status` is the HTTP status (RFC 9110)."""

    def __init__(self, status: int, problem: Problem) -> None:
        self.status, self.problem = status, problem
        self.code = problem.code or "NQR-API-199"
        self.cure = problem.cure
        super().__init__(problem.detail or problem.title)


class WaitFailed(ClientError):
    """The VM can no longer meet the condition. `name`: of the VM."""

    code = "NQR-API-197"

    def __init__(self, what: str, name: str = "") -> None:
        super().__init__(what)
        if name:
            self.cure = f"Look at it with: nqr vm show {argument(name)}"


class WaitTimeout(WaitFailed):
    """The condition was not met within the timeout."""

    code = "NQR-API-196"


class AgentClientError(Exception):
    """Base of the errors of calls to an agent. It stands here, so that catching it loads no client."""
