"""Packages: version, state, and whether someone requested them, from the host's package manager."""

from __future__ import annotations

from nqrust.host.errors import HostError
from nqrust.host.port import Host
from nqrust.installer.fingerprint.model import Section
from nqrust.installer.verbs.packages import registry


def take(host: Host, unread: list[str]) -> Section:
    try:
        return registry.states(host)
    except HostError as error:
        unread.append(f"packages: {error}")
        return {}
