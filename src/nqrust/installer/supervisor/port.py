"""What starts our services and keeps them running. One small file each implements it."""

from __future__ import annotations

from typing import Any, Protocol

from nqrust.host.port import Host
from nqrust.installer.supervisor.spec import ServiceSpec, ServiceState


class Supervisor(Protocol):
    """Names may be given with or without the supervisor's suffix. Methods that act raise HostError."""

    @property
    def name(self) -> str:
        """Also the one in undo records."""
        ...

    def detect(self, host: Host) -> bool:
        """Whether this machine is run by it."""
        ...

    def unit_name(self, name: str) -> str:
        """The service's name in the supervisor's own words."""
        ...

    def unit_path(self, name: str) -> str:
        """Where its file goes."""
        ...

    def render(self, spec: ServiceSpec) -> str:
        """Content of that file."""
        ...

    def state(self, host: Host, name: str) -> ServiceState:
        """Never raises for a service or a supervisor that is not there: that is a state."""
        ...

    def reload(self, host: Host) -> None:
        """Read files that changed; running services are left alone."""
        ...

    def enable(self, host: Host, name: str) -> None: ...

    def disable(self, host: Host, name: str) -> None: ...

    def start(self, host: Host, name: str) -> None: ...

    def restart(self, host: Host, name: str) -> None: ...

    def stop(self, host: Host, name: str) -> None: ...

    def log_tail(self, host: Host, name: str, lines: int = 10) -> list[str]:
        """The last lines it logged; empty when there are none or they cannot be read."""
        ...

    def log_hint(self, name: str) -> str:
        """The command with which a person reads the log."""
        ...

    def undo_arguments(self) -> dict[str, Any]:
        """What the undo verb `unit` needs beyond the service's name in order to reach the supervisor."""
        ...
