"""Kernel parameters, modules and mounts: /proc/sys, /proc/modules, /proc/self/mountinfo (proc(5), sysctl(8))."""

from __future__ import annotations

from nqrust.host import mounts
from nqrust.host.errors import HostError
from nqrust.host.facts.reading import names, text
from nqrust.host.port import Host
from nqrust.installer.fingerprint import volatile
from nqrust.installer.fingerprint.model import Section

_WHOLE = ("net/ipv4", "net/ipv6", "net/bridge", "net/netfilter")
"""Folders whose every direct parameter counts."""

_PER_LINK = (
    "forwarding",
    "rp_filter",
    "proxy_arp",
    "route_localnet",
    "accept_local",
    "arp_ignore",
    "accept_ra",
    "disable_ipv6",
    "send_redirects",
    "accept_redirects",
)

_SINGLE = (
    "kernel/unprivileged_userns_clone",
    "kernel/sysrq",
    "kernel/panic",
    "kernel/pid_max",
    "kernel/hostname",
    "net/core/somaxconn",
    "net/core/rmem_max",
    "net/core/wmem_max",
    "net/core/default_qdisc",
    "vm/swappiness",
    "vm/overcommit_memory",
    "vm/max_map_count",
    "vm/nr_hugepages",
    "fs/inotify/max_user_watches",
    "fs/inotify/max_user_instances",
)

_NOT_ON_DISK = ("/proc", "/sys", "/dev", "/run")


def take_sysctls(host: Host) -> Section:
    """Return parameter, in sysctl(8)'s notation, -> value."""
    parameters = list(_SINGLE)
    for folder in _WHOLE:
        parameters += [f"{folder}/{name}" for name in names(host, f"/proc/sys/{folder}")]
    for family in ("net/ipv4/conf", "net/ipv6/conf"):
        for link in names(host, f"/proc/sys/{family}"):
            parameters += [f"{family}/{link}/{name}" for name in _PER_LINK]
    ignored = volatile.compiled(volatile.SYSCTLS)
    found: Section = {}
    for parameter in parameters:
        # sysctl(8) writes a dot in a link's name (eth0.5) as a slash.
        key = parameter.translate({ord("."): "/", ord("/"): "."})
        if ignored.match(key):
            continue
        try:
            found[key] = host.read_text(f"/proc/sys/{parameter}").strip()
        except HostError:
            continue  # folders, and write-only parameters
    return found


def take_modules(host: Host) -> Section:
    """Return the loaded modules; empty for a kernel without modules."""
    return {line.split(" ", 1)[0]: "loaded" for line in text(host, "/proc/modules").splitlines() if line}


def take_mounts(host: Host) -> Section:
    """Return mount point -> file system type and source, without the kernel's own file systems."""
    return {
        mount.mount_point: [mount.fstype, mount.source, mount.root]
        for mount in mounts.parse_mountinfo(text(host, mounts.MOUNTINFO))
        if not any(mounts.is_at_or_below(mount.mount_point, place) for place in _NOT_ON_DISK)
    }
