"""Takes a fingerprint: reads everything that an installer could change."""

from __future__ import annotations

from collections import Counter

from nqrust.contract.paths import Layout
from nqrust.host.port import Host
from nqrust.installer.fingerprint import accounts, files, firewall, kernel, network, packages, postgres, units
from nqrust.installer.fingerprint.model import Fingerprint
from nqrust.installer.fingerprint.ours import processes_of_ours


def take(host: Host, *, layout: Layout | None = None) -> Fingerprint:
    """Return the fingerprint. Only reads. Names unreadable parts in `unread` instead of raising."""
    unread: list[str] = []
    running = Counter(line.split(" ", 2)[2] for line in processes_of_ours(host, layout or Layout()))
    return Fingerprint(
        taken_at=host.now(),
        sections={
            "files": files.take(host, unread),
            "folders": files.take_names(host),
            "users": accounts.take_users(host),
            "groups": accounts.take_groups(host),
            "packages": packages.take(host, unread),
            "unit_files": units.take_files(host, unread),
            "units": units.take_active(host, unread),
            "links": network.take_links(host),
            "routes": network.take_routes(host, unread),
            "firewall": firewall.take(host, unread),
            "sysctls": kernel.take_sysctls(host),
            "modules": kernel.take_modules(host),
            "mounts": kernel.take_mounts(host),
            "postgres": postgres.take(host, unread),
            "ports": network.take_ports(host),
            "processes": dict(running),
        },
        unread=tuple(unread),
    )
