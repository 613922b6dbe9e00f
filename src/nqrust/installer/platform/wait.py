"""Step: wait until a health endpoint answers 200."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from nqrust.host.errors import HostError
from nqrust.host.port import Host
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import (
    Inspection,
    Needed,
    Origin,
    Prepared,
    Satisfied,
)
from nqrust.installer.supervisor.port import Supervisor

_POLL = 0.2  # seconds, like every time here
_TIMEOUT = 5.0


@dataclass(frozen=True)
class Healthy:
    """A health endpoint to wait for. Changes nothing, so it has no undo record. `deadline` in seconds. `service` and
    `supervisor` explain a failure, and end the wait early if the service has failed permanently."""

    kind: ClassVar[str] = "healthy"

    id: str
    url: str
    deadline: float = 60.0
    service: str = ""
    supervisor: Supervisor | None = field(default=None, repr=False)

    def describe(self) -> str:
        return f"wait until {self.service or self.url} answers"

    def inspect(self, host: Host) -> Inspection:
        return Satisfied() if self._answer(host) == "200" else Needed((f"wait for {self.url}",))

    def prepare(self, host: Host) -> Prepared:
        return Prepared(Origin.adopted, ())

    def apply(self, host: Host) -> None:
        waited = 0.0
        while True:
            began = host.monotonic()
            answer = self._answer(host)
            if answer == "200":
                return
            if waited > self.deadline or self._given_up(host):
                raise self._failed(host, answer)
            host.sleep(_POLL)
            # A round takes at most this long. Any time beyond that, this process was suspended.
            waited += min(host.monotonic() - began, _TIMEOUT + 2 * _POLL)

    def verify(self, host: Host) -> None:
        """Do nothing: `apply` returns only after a 200."""

    def _answer(self, host: Host) -> str:
        try:
            status, _ = host.http_get(self.url, timeout=_TIMEOUT)
        except HostError as error:
            return str(error)
        return str(status)

    def _given_up(self, host: Host) -> bool:
        return bool(self.supervisor and self.service and self.supervisor.state(host, self.service).failed)

    def _failed(self, host: Host, answer: str) -> StepFailed:
        told = f"answered {answer}" if answer.isdigit() else f"did not answer ({answer.rstrip('.')})"
        state, hint, tail = "", f"Check what listens at {self.url}", ""
        if self.supervisor is not None and self.service:
            state = f"; {self.supervisor.unit_name(self.service)} is {self.supervisor.state(host, self.service).text}"
            tail = "".join(f"\n    {line}" for line in self.supervisor.log_tail(host, self.service))
            hint = f"Read its log ({self.supervisor.log_hint(self.service)}), fix the problem that it names"
        return StepFailed(
            "NQR-SVC-104",
            f"{self.url} {told} within {self.deadline:g} s{state}." + (f" Its last output:{tail}" if tail else ""),
            f"{hint}, then run the same command again.",
        )
