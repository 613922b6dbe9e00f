"""The known supervisors. A new one is a new small file and a line here."""

from __future__ import annotations

from nqrust.installer.supervisor.port import Supervisor
from nqrust.installer.supervisor.supervisord import Supervisord
from nqrust.installer.supervisor.systemd import SYSTEMD


def for_facts(supervisor: str, supervisord: Supervisord | None = None) -> Supervisor:
    """Return the supervisor for `Facts.supervisor` (`systemd` or `none`). `supervisord`: its paths, if not the defaults."""
    if supervisor == "systemd":
        return SYSTEMD
    return supervisord or Supervisord()
