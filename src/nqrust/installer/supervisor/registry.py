"""The known supervisors. A new one is a new small file and a line here."""

from __future__ import annotations

from nqrust.contract.paths import Layout
from nqrust.installer.supervisor.alarm import Alarms
from nqrust.installer.supervisor.detached_alarm import DetachedAlarms
from nqrust.installer.supervisor.port import Supervisor
from nqrust.installer.supervisor.supervisord import Supervisord
from nqrust.installer.supervisor.systemd import SYSTEMD
from nqrust.installer.supervisor.systemd_alarm import SystemdAlarms


def for_facts(supervisor: str, supervisord: Supervisord | None = None) -> Supervisor:
    """Return the supervisor for `Facts.supervisor` (`systemd` or `none`). `supervisord`: its paths, if not the defaults."""
    if supervisor == "systemd":
        return SYSTEMD
    return supervisord or Supervisord()


def supervisord_of(layout: Layout) -> Supervisord:
    """Return nqr's own supervisord, which runs the services on hosts without systemd."""
    return Supervisord(bin_dir=f"{layout.installer_dir}/venv/bin", config=f"{layout.config_dir}/supervisord.conf")


def alarms_of(supervisor: str, programs_dir: str | None = None) -> Alarms:
    """Return how a machine with this supervisor (its name, or `Facts.supervisor`) keeps alarms. `programs_dir`: supervisord's,
    if not the default."""
    if supervisor == SYSTEMD.name:
        return SystemdAlarms()
    return DetachedAlarms(programs_dir) if programs_dir else DetachedAlarms()
