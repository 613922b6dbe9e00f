"""Paths that change on their own, each with a reason: caches, backups, clocks and databases that another section compares.

Never configuration. Rows of a package manager stand in its folder. `**` matches anything, `*` one name or a part of it.
"""

from __future__ import annotations

import re

from nqrust.installer.verbs.packages.registry import MANAGERS

PATHS: tuple[tuple[str, str], ...] = (
    ("/etc/.pwd.lock", "empty lock file of the account tools (lckpwdf(3))"),
    ("/etc/passwd-", "backup that the account tools keep; the file itself is compared"),
    ("/etc/group-", "backup that the account tools keep; the file itself is compared"),
    ("/etc/shadow-", "backup that the account tools keep; the file itself is compared"),
    ("/etc/gshadow-", "backup that the account tools keep; the file itself is compared"),
    ("/etc/subuid-", "backup that the account tools keep; the file itself is compared"),
    ("/etc/subgid-", "backup that the account tools keep; the file itself is compared"),
    ("/etc/ld.so.cache", "cache that ldconfig(8) derives from the installed libraries"),
    ("/var/lib/PackageKit/**", "history of the package manager"),
    ("/var/lib/command-not-found/**", "cache derived from what the mirrors offer"),
    ("/var/lib/update-notifier/**", "time stamps of the update notifier"),
    ("/var/lib/ucf/*.[0-9]", "rotating backups of ucf(1)"),
    ("/var/lib/systemd/random-seed", "random by purpose"),
    ("/var/lib/systemd/timers/*", "time stamps of timers"),
    ("/var/lib/systemd/timesync/clock", "time stamp"),
    ("/var/lib/systemd/catalog/database", "cache that journalctl(1) derives from the installed catalogs"),
    ("/var/lib/private/systemd/**", "time stamps and seeds of systemd's own services"),
    ("/var/lib/logrotate/**", "time stamps of logrotate(8)"),
    ("/var/lib/logrotate.status", "time stamps of logrotate(8)"),
    ("/var/lib/plocate/**", "cache of locate(1)"),
    ("/var/lib/mlocate/**", "cache of locate(1)"),
    ("/var/lib/dhcp/*", "leases of the host's own DHCP client"),
    ("/var/lib/dhcpcd/*", "leases of the host's own DHCP client"),
    ("/var/lib/dhclient/*", "leases of the host's own DHCP client"),
    ("/var/lib/NetworkManager/*.lease", "leases of the host's own DHCP client"),
    ("/var/lib/NetworkManager/timestamps", "time stamps of connections"),
    ("/var/lib/NetworkManager/seen-bssids", "wireless stations that were in reach"),
    ("/var/lib/fail2ban/fail2ban.sqlite3", "who was locked out of late"),
    ("/var/lib/sgml-base/supercatalog.old", "backup that update-catalog(8) keeps; the file itself is compared"),
    ("/var/lib/chrony/*", "measured drift of the clock"),
    ("/var/lib/ntp/*", "measured drift of the clock"),
    ("/var/tmp/systemd-private-*", "private folders of running services, new at each start (systemd.exec(5), PrivateTmp=)"),
    ("**/__pycache__", "cache of compiled Python"),
    ("**/__pycache__/**", "cache of compiled Python"),
)

CLOSED: tuple[tuple[str, str], ...] = (
    # The walk does not enter these: a running program owns them and writes all the time.
    ("/var/lib/docker", "containers and images of Docker"),
    ("/var/lib/containerd", "containers and images of containerd"),
    ("/var/lib/containers", "containers and images of Podman"),
    ("/var/lib/kubelet", "pods of Kubernetes"),
    ("/var/lib/lxcfs", "file system of LXC's own daemon"),
    ("/var/lib/snapd", "snaps and their mounts"),
    ("/var/lib/flatpak", "applications of Flatpak"),
)

UNITS: tuple[tuple[str, str], ...] = (
    ("user@*.service", "somebody logged in"),
    ("user-runtime-dir@*.service", "somebody logged in"),
    ("systemd-hostnamed.service", "started on demand, ends when idle"),
    ("systemd-localed.service", "started on demand, ends when idle"),
    ("systemd-timedated.service", "started on demand, ends when idle"),
    ("NetworkManager-dispatcher.service", "started on demand, ends when idle"),
    ("*-wait-online.service", "waits once for the network when another unit asks for it"),
    ("packagekit.service", "started on demand, ends when idle"),
    ("polkit.service", "started on demand by others"),
    ("systemd-tmpfiles-clean.service", "runs once a day"),
    ("man-db.service", "runs once a day"),
    ("logrotate.service", "runs once a day"),
    ("fstrim.service", "runs once a week"),
    ("e2scrub*.service", "runs once a week"),
)

SYSCTLS: tuple[tuple[str, str], ...] = (
    ("net.netfilter.nf_conntrack_count", "number of connections at the moment"),
    ("net.ipv4.tcp_fastopen_key", "a secret"),
    ("net.ipv6.conf.*.stable_secret", "a secret"),
)


def paths() -> re.Pattern[str]:
    """Return the pattern of files and folders that change on their own."""
    return compiled((*PATHS, *(row for manager in MANAGERS.values() for row in manager.database.volatile_files)))


def units() -> re.Pattern[str]:
    """Return the pattern of units that start and end on their own."""
    return compiled((*UNITS, *(row for manager in MANAGERS.values() for row in manager.database.volatile_units)))


def compiled(table: tuple[tuple[str, str], ...]) -> re.Pattern[str]:
    """Return one expression for a whole table."""
    return re.compile("|".join(f"(?:{_expression(pattern)})" for pattern, _ in table) + r"\Z")


def _expression(pattern: str) -> str:
    parts = []
    for piece in re.split(r"(\*\*|\*|\[[^\]]+\])", pattern):
        if piece == "**":
            parts.append(".*")
        elif piece == "*":
            parts.append("[^/]*")
        elif piece.startswith("["):
            parts.append(piece)
        else:
            parts.append(re.escape(piece))
    return "".join(parts) + r"\Z"
