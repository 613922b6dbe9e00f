"""Errors in the agent's answers.

AgentError          a stable code, one sentence what, one sentence cure, and the HTTP status of the answer
├── NotFound            404
├── Conflict            409
├── Refused             422: an impossible request
└── Failed              500, 502, 503: a valid request that this host could not carry out
SettingsError       the environment of the service is wrong (exit code 2)
"""

from __future__ import annotations

from nqrust.contract.problem import Problem


class AgentError(Exception):
    status = 500

    def __init__(self, code: str, what: str, cure: str, *, status: int | None = None) -> None:
        self.code, self.what, self.cure = code, what, cure
        self.status = status or type(self).status
        super().__init__(f"{code}: {what} {cure}")

    def problem(self, request_id: str = "") -> Problem:
        return Problem(
            title=self.what, status=self.status, detail=self.what, code=self.code, cure=self.cure, request_id=request_id
        )


class NotFound(AgentError):
    status = 404


class Conflict(AgentError):
    status = 409


class Refused(AgentError):
    status = 422


class Failed(AgentError):
    status = 500


class SettingsError(Exception):
    """`NQR-CFG-7xx`: a variable of agent.env is missing or wrong."""

    def __init__(self, code: str, what: str, cure: str) -> None:
        self.code, self.what, self.cure = code, what, cure
        super().__init__(f"{code}: {what} {cure}")


def unknown_vm(vm_id: str) -> NotFound:
    return NotFound("NQR-API-702", f"VM {vm_id} is not on this host.", "List the VMs with GET /agent/v1/inventory.")
