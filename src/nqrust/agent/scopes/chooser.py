"""Chooses the kind of scopes: systemd's if it is PID 1 (sd_booted(3)), otherwise process groups."""

from __future__ import annotations

from nqrust.agent.scopes.port import Scopes
from nqrust.agent.scopes.process import ProcessScopes
from nqrust.agent.scopes.systemd import SystemdScopes
from nqrust.agent.settings import Settings
from nqrust.host.port import Host


def choose(host: Host, settings: Settings) -> Scopes:
    if host.exists("/run/systemd/system") and host.which("systemd-run"):
        return SystemdScopes(host, settings)
    return ProcessScopes(host, settings)
