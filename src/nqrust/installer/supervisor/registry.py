"""Which supervisors we know. A new one is a new small file and a line here."""

from __future__ import annotations

from nqrust.installer.supervisor.port import Supervisor
from nqrust.installer.supervisor.supervisord import Supervisord
from nqrust.installer.supervisor.systemd import SYSTEMD


def for_facts(supervisor: str, supervisord: Supervisord | None = None) -> Supervisor:
    """The supervisor for `Facts.supervisor` (`systemd` or `none`). `supervisord`: its places, where not the
    default."""
    if supervisor == "systemd":
        return SYSTEMD
    return supervisord or Supervisord()
