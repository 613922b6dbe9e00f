"""Everything of this product on a host now, found by looking, not from records: for "uninstall left nothing"."""

from __future__ import annotations

import re

from nqrust.contract import names as product
from nqrust.contract import paths
from nqrust.contract.paths import Layout
from nqrust.host.errors import HostError
from nqrust.host.facts import container, processes
from nqrust.host.facts.reading import names, text
from nqrust.host.port import Host, command
from nqrust.installer.fingerprint import firewall

MARK = "nqrust"
CHAIN_PREFIX = "NQR-"

_PLACES = (
    "/etc/systemd/system/*nqrust*",
    "/etc/systemd/system/*.wants/*nqrust*",
    "/etc/systemd/system/*.d/*nqrust*",
    "/usr/lib/systemd/system/*nqrust*",
    "/etc/sudoers.d/*nqrust*",
    "/etc/sysctl.d/*nqrust*",
    "/etc/modules-load.d/*nqrust*",
    "/etc/modprobe.d/*nqrust*",
    "/etc/udev/rules.d/*nqrust*",
    "/etc/dnsmasq.d/*nqrust*",
    "/etc/netplan/*nqrust*",
    "/etc/tmpfiles.d/*nqrust*",
    "/etc/systemd/network/*nqrust*",
    "/etc/NetworkManager/conf.d/*nqrust*",
    "/etc/NetworkManager/system-connections/*nqrust*",
    "/etc/network/interfaces.d/*nqrust*",
    "/etc/logrotate.d/*nqrust*",
    "/etc/cron.d/*nqrust*",
    "/etc/polkit-1/rules.d/*nqrust*",
    "/usr/local/bin/nqr*",
)
_SHARED = ("/etc/modules", "/etc/sysctl.conf", "/etc/fstab", "/etc/hosts", "/etc/network/interfaces", "/etc/sudoers")
"""Shared files that could still contain a marked block of nqr."""

_LARGEST = 1 << 20
"""Bytes that are read of what a process says of itself: it can say any number."""
_PEOPLE = range(1000, 60_001)
"""User numbers of people: UID_MIN and UID_MAX of login.defs(5)."""

_TAP = re.compile(r"(?:tap|ifb)[0-9a-f]{11}\Z")


def ours(host: Host, layout: Layout, *, data: bool = False) -> list[str]:
    """Return one line for each thing. `data`: include disks of VMs, images and the database's files."""
    return [
        *_files(host, layout, data),
        *_units(host),
        *_accounts(host),
        *_links(host),
        *_chains(host),
        *processes_of_ours(host, layout),
    ]


def processes_of_ours(host: Host, layout: Layout) -> list[str]:
    """Return processes of services and VMs, found by environment, control group or program. A person's own programs are none.
    Excludes this process and its parents."""
    mine = _ancestry(host)
    services = {known.uid for name in (product.SERVICE_USER, product.UI_USER) if (known := host.user(name))}
    found = []
    for pid, comm in processes.probe(host).items():
        if pid in mine:
            continue
        user = re.search(r"^Uid:\s+(\d+)", text(host, f"/proc/{pid}/status"), re.MULTILINE)
        number = int(user[1]) if user is not None else 0
        of_a_vm = number in product.VM_USERS
        # Such a process, and a person's, can claim anything, in memory that never answers.
        says = not of_a_vm and (number not in _PEOPLE or number in services)
        environment = text(host, f"/proc/{pid}/environ", _LARGEST) if says else ""
        arguments = text(host, f"/proc/{pid}/cmdline", _LARGEST).split("\0") if says else []
        groups = text(host, f"/proc/{pid}/cgroup")
        scope = container.parse_environment(environment).get(product.SCOPE_ENV, "")
        if scope:
            found.append(f"process {pid} {comm} of {scope}")
        elif any(
            argument.startswith((f"{layout.install_dir}/", f"{layout.config_dir}/")) or f"={layout.config_dir}/" in argument
            for argument in arguments[:8]
        ):
            found.append(f"process {pid} {comm}")
        elif re.search(rf"/(?:{MARK}-[\w@.-]+\.service|{product.SCOPE_PREFIX}[\w-]+\.scope)", groups):
            found.append(f"process {pid} {comm} in {groups.strip().rpartition('/')[2]}")
        elif of_a_vm:
            found.append(f"process {pid} {comm} of a VM's user")
    return found


def _files(host: Host, layout: Layout, data: bool) -> list[str]:
    wanted = [
        layout.install_dir,
        layout.config_dir,
        paths.STATE_DIR,
        paths.LOG_DIR,
        paths.INSTALL_LOG_DIR,
        paths.CACHE_DIR,
        paths.RUN_DIR,
        paths.NQR_LINK,
        paths.LOCK_FILE,
    ]
    if data:
        wanted += [layout.data_dir, layout.image_dir]
    for pattern in _PLACES:
        wanted += host.glob(pattern)
    found = [f"path {path}" for path in dict.fromkeys(wanted) if host.exists(path)]
    found += [f"block in {path}" for path in _SHARED if "BEGIN nqrust" in text(host, path)]
    return found


def _units(host: Host) -> list[str]:
    if container.supervisor(host) != "systemd":
        return []
    try:
        done = host.run(
            command(
                "systemctl",
                "--no-legend",
                "--no-pager",
                "--plain",
                "--full",
                "--all",
                "list-units",
                f"{MARK}*",
                f"{product.SCOPE_PREFIX}*.scope",
                timeout=30,
            )
        )
    except HostError:
        return []
    rows = (line.lstrip("●*○× ").split() for line in done.stdout.splitlines())
    # systemctl lists a removed unit as not-found while others refer to it.
    return [f"unit {row[0]} ({row[2]})" for row in rows if len(row) >= 4 and row[1:3] != ["not-found", "inactive"]]


def _accounts(host: Host) -> list[str]:
    users = (product.SERVICE_USER, product.UI_USER)
    groups = (product.SERVICE_GROUP, product.UI_GROUP)
    found = [f"user {name}" for name in users if host.user(name) is not None]
    return found + [f"group {name}" for name in groups if host.group(name) is not None]


def _links(host: Host) -> list[str]:
    found = []
    for name in names(host, "/sys/class/net"):
        alias = text(host, f"/sys/class/net/{name}/ifalias").strip()
        if MARK in alias or alias.startswith("nqr") or _TAP.match(name):
            found.append(f"link {name}" + (f" ({alias})" if alias else ""))
    return found


def _chains(host: Host) -> list[str]:
    rules = firewall.take(host, [])
    return [f"chain {key}" for key in sorted(rules) if key.split(" ")[-1].startswith(CHAIN_PREFIX)] + [
        f"rule in {key}: {rule}"
        for key, listed in sorted(rules.items())
        if not key.split(" ")[-1].startswith(CHAIN_PREFIX)
        for rule in listed
        if CHAIN_PREFIX in rule or MARK in rule
    ]


def _ancestry(host: Host) -> set[int]:
    """Return this process and its ancestors: `nqr uninstall` runs from the installation that it removes."""
    found: set[int] = set()
    try:
        pid = int(host.readlink("/proc/self"))
    except (HostError, ValueError):
        return found
    while pid > 1 and pid not in found:
        found.add(pid)
        parent = re.search(r"^PPid:\s*(\d+)", text(host, f"/proc/{pid}/status"), re.MULTILINE)
        pid = int(parent.group(1)) if parent else 0
    return found
