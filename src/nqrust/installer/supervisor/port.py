"""The supervisor, which starts nqr's services and keeps them running. One small file implements each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from nqrust.host.port import Host
from nqrust.installer.supervisor.spec import ServiceSpec, ServiceState


class Supervisor(Protocol):
    """A supervisor. Names may include its suffix. Methods that act raise HostError."""

    @property
    def name(self) -> str:
        """Return the supervisor's name, also used in undo records."""
        ...

    def detect(self, host: Host) -> bool:
        """Return whether this supervisor runs the machine."""
        ...

    def unit_name(self, name: str) -> str:
        """Return the supervisor's name for the service."""
        ...

    def unit_path(self, name: str) -> str:
        """Return the path of the service's file."""
        ...

    def render(self, spec: ServiceSpec) -> str:
        """Return the content of that file."""
        ...

    def state(self, host: Host, name: str) -> ServiceState:
        """Return the state. A missing service or supervisor is a state and never raises."""
        ...

    def looked(self, host: Host, names: Iterable[str]) -> Supervisor:
        """Return this supervisor with the states of these services, from one question. Its `state` answers with them, also after a
        change, so use it only to look."""
        ...

    def reload(self, host: Host) -> None:
        """Read changed files, without effect on running services."""
        ...

    def enable(self, host: Host, name: str) -> None: ...

    def disable(self, host: Host, name: str) -> None: ...

    def start(self, host: Host, name: str) -> None: ...

    def restart(self, host: Host, name: str) -> None: ...

    def stop(self, host: Host, name: str) -> None: ...

    def log_tail(self, host: Host, name: str, lines: int = 10) -> list[str]:
        """Return the last logged lines, or none if the log is empty or unreadable."""
        ...

    def log_hint(self, name: str) -> str:
        """Return a command for people to read the log."""
        ...

    def undo_arguments(self) -> dict[str, Any]:
        """Return the arguments that the undo verb `unit` needs besides the service's name to reach the supervisor."""
        ...
