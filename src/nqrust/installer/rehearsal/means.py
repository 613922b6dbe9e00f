"""Checks whether a rehearsal is possible here, and describes its clone: space, card, resolver and units."""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Mapping

import nqrust
from nqrust.contract.paths import CACHE_DIR
from nqrust.host.errors import HostError
from nqrust.host.facts.model import Facts
from nqrust.host.facts.reading import names, text
from nqrust.host.mounts import MOUNTINFO, parse_mountinfo
from nqrust.host.port import Host, Kind
from nqrust.installer.distro.registry import kin
from nqrust.installer.engine.errors import PreflightRefused
from nqrust.installer.engine.receipt import Receipt
from nqrust.installer.rehearsal import boot
from nqrust.installer.rehearsal.mounts import can_take_writes, clone_mounts
from nqrust.installer.rehearsal.spec import RESOLVER, CloneSpec, Uplink, Work
from nqrust.installer.release.bundle.contents import is_bundle
from nqrust.installer.release.source_tree.forms import UPSTREAM, form_of
from nqrust.installer.settings.model import DbType, NetworkMode, Settings

NEEDED_MIB = 4096
"""Upper limit of an install's writes, with reserve: packages, environments, images, the database."""
SPARE_MIB = 1024
"""Memory left to the host by a clone in memory."""
_MASKED_ALWAYS = (
    "networking.service", "systemd-networkd.service", "systemd-networkd.socket", "systemd-networkd-wait-online.service",
    "NetworkManager.service", "NetworkManager-wait-online.service", "systemd-resolved.service", "systemd-timesyncd.service",
    "ifupdown-wait-online.service", "dhcpcd.service", "wpa_supplicant.service", "systemd-udevd.service",
)  # fmt: skip
_REACHED = ("sysinit", "local-fs", "local-fs-pre", "swap", "cryptsetup", "network-online", "network-pre", "network", "nss-lookup")
"""Targets that the clone reaches. It masks the units that administrators or packages added to them."""
_DROPPED_VARIABLES = frozenset({
    "NQR_OUTPUT", "NQR_DRY_RUN", "NQR_REHEARSE", "NQR_REPORT", "NQR_NON_INTERACTIVE", "NQR_ON_FAILURE", "INVOCATION_ID",
    "JOURNAL_STREAM", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR",
})  # fmt: skip


def refuse_what_would_reach_out(settings: Settings, receipt: Receipt) -> None:
    """Refuse a rehearsal that would affect more than its clone. Raises PreflightRefused."""
    if receipt.entries or receipt.unfinished:
        raise PreflightRefused(
            "NQR-RHS-001",
            "NQRust-MicroVM is already on this host: a copy would start its VMs and services twice.",
            "Use `nqr plan` to predict the changes.",
        )
    if settings.has_agent and not settings.has_manager:
        raise PreflightRefused(
            "NQR-RHS-002",
            "nqr cannot rehearse an agent alone: its copy would join the real manager and use the token.",
            "Use --dry-run for this host; rehearse --mode production or minimal on one that has its own manager.",
        )
    if settings.has_manager and settings.database.type is DbType.remote:
        raise PreflightRefused(
            "NQR-RHS-003",
            "nqr cannot rehearse an install with a remote database: its copy would migrate the real database.",
            "Rehearse with --db-type local, or use --dry-run.",
        )

    if settings.release.source != "bundled" and not is_bundle(settings.release.source):
        raise _not_ours(f"the release {settings.release.source}", "--release")
    if settings.has_agent and settings.network.mode is NetworkMode.bridged:
        raise PreflightRefused(
            "NQR-RHS-009",
            "nqr cannot rehearse bridged mode: the clone does not include the bridge and its network.",
            "Rehearse with --network-mode nat or isolated, or use --dry-run.",
        )


def refuse_other_trees(host: Host, settings: Settings) -> None:
    """Refuse a source tree in upstream's form. Raises PreflightRefused NQR-RHS-011."""
    tree = settings.release.source_dir
    if tree and form_of(host, tree) == UPSTREAM:
        raise _not_ours(f"the source tree {tree}", "--source")


def _not_ours(what: str, option: str) -> PreflightRefused:
    return PreflightRefused(
        "NQR-RHS-011",
        f"nqr cannot rehearse {what}: the clone gets its own copy of nqr only.",
        f"Rehearse without {option}, or use --dry-run.",
    )


def refuse_without_card(host: Host) -> None:
    """Refuse a host without /dev/net/tun. Raises PreflightRefused NQR-RHS-004."""
    if not host.exists("/dev/net/tun"):
        raise PreflightRefused(
            "NQR-RHS-004",
            "/dev/net/tun is missing, and the rehearsal's network needs it.",
            "Load it with `modprobe tun` (in a container: add the device), then try again.",
        )


def memory_needed(host: Host, facts: Facts) -> int:
    """Return the MiB of memory for the clone's writes; 0 if the cache's file system can hold them. Raises NQR-RHS-005."""
    disk = host.disk_usage(CACHE_DIR)
    if can_take_writes(disk.fstype) and not disk.read_only and disk.available >> 20 >= NEEDED_MIB:
        return 0
    free = facts.memory.available_mib - SPARE_MIB
    if free >= NEEDED_MIB:
        return min(free, 4 * NEEDED_MIB)
    raise PreflightRefused(
        "NQR-RHS-005",
        f"Not enough space for a rehearsal: it needs {NEEDED_MIB} MiB free below {CACHE_DIR} on a disk "
        f"(ext4, xfs or btrfs), or {NEEDED_MIB + SPARE_MIB} MiB of free memory.",
        "Free space, then try again. Or use --dry-run.",
    )


def describe(
    host: Host, facts: Facts, *, scratch: str, memory_mib: int, arguments: tuple[str, ...], environment: Mapping[str, str],
    cwd: str, limit: float, uplink: str | None = None, connected: bool = True,
) -> tuple[CloneSpec, tuple[str, ...]]:  # fmt: skip
    """Return the clone's spec, and sentences on parts of the host that it lacks. `uplink`: the link in the settings. `connected`:
    whether the clone needs a network."""
    mounts = parse_mountinfo(text(host, MOUNTINFO))
    files, closed = _files(host, [one.mount_point for one in mounts])
    made, left_out = clone_mounts([one for one in mounts if one.mount_point not in closed], files)
    source = os.path.dirname(os.path.dirname(os.path.abspath(nqrust.__file__)))
    resolver, loopback = _resolver(text(host, "/etc/resolv.conf"))
    install = boot.python(source, sys.executable, "nqrust.cli", sys.pycache_prefix or "")
    known = kin(facts.os)
    card, others = _uplink(facts, uplink or facts.network.uplink)
    spec = CloneSpec(
        parent=_own_pid(host),
        scratch=scratch,
        memory_mib=memory_mib,
        boot=facts.supervisor == "systemd",
        connected=connected,
        hostname=facts.hostname or "localhost",
        mounts=made,
        uplink=card,
        resolver=resolver,
        loopback_resolver=loopback,
        refused=_own_addresses(facts),
        masked=_masked(host),
        wanted=_wanted(host),
        distro=known.id if known else "",
        python=boot.python(source, sys.executable, boot.INSIDE, sys.pycache_prefix or ""),
        work=Work((*install, *arguments), _kept(environment), cwd, limit),
    )
    notes = [f"{path} (a file system of another machine, of a container) was left out of the clone." for path in left_out]
    notes += [f"{path} (a file system that root cannot read) was left out of the clone." for path in sorted(closed)]
    if not connected:
        notes.append("The clone had no network, because an install from a bundle needs none.")
    if others:
        notes.append(f"The clone has the uplink {card.name} alone; not {', '.join(others)}.")
    return spec, tuple(notes)


def _files(host: Host, points: list[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the mount points that are files, and those that root cannot read: a user's, by fusermount without allow_other."""
    found, closed = set(), set()
    for point in points:
        if point.startswith(("/proc/", "/sys/", "/dev/", "/run/")):
            continue
        try:
            entry = host.stat(point)
        except HostError:
            closed.add(point)
            continue
        if entry is not None and entry.kind is not Kind.directory:
            found.add(point)
    return frozenset(found), frozenset(closed)


def _own_pid(host: Host) -> int:
    return int(host.readlink("/proc/self"))


def _uplink(facts: Facts, name: str | None) -> tuple[Uplink, list[str]]:
    link = next((one for one in facts.network.links if one.name == name), None)
    others = [one.name for one in facts.network.links if one.name not in (name, "lo")]
    if link is None:
        default = Uplink(addresses=("169.254.77.100/24",))
        return default, [other for other in others if other != default.name]
    addresses = tuple(one for one in link.addresses if ipaddress.ip_interface(one).version == 4)
    return Uplink(link.name, addresses or ("169.254.77.100/24",)), others


def _own_addresses(facts: Facts) -> tuple[str, ...]:
    found = {address.split("/")[0] for link in facts.network.links for address in link.addresses}
    return tuple(sorted(address for address in found if ipaddress.ip_address(address).version == 4))


def _resolver(content: str) -> tuple[str, str]:
    """Return the clone's resolv.conf, and the host's resolver on loopback ("" if there is none)."""
    loopback = ""
    lines = []
    for line in content.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                address = ipaddress.ip_address(words[1].split("%")[0])
            except ValueError:
                continue
            if address.version == 6:
                continue  # the clone's network is IPv4
            if address.is_loopback:
                loopback = loopback or words[1]
                line = f"nameserver {RESOLVER}"
        lines.append(line)
    return "".join(f"{line}\n" for line in dict.fromkeys(lines)), loopback


def _masked(host: Host) -> tuple[str, ...]:
    found = set(_MASKED_ALWAYS)
    for target in _REACHED:
        found.update(names(host, f"/etc/systemd/system/{target}.target.wants"))
    for folder in ("/usr/lib/systemd/system", "/lib/systemd/system"):
        found.update(names(host, f"{folder}/network-online.target.wants"))
    return tuple(sorted(found))


def _wanted(host: Host) -> tuple[str, ...]:
    """Return the host's services that an install uses if they exist."""
    places = ("/usr/lib/systemd/system", "/lib/systemd/system")
    found = ["dbus.socket"] if any(host.exists(f"{place}/dbus.socket") for place in places) else []
    if host.exists("/etc/systemd/system/multi-user.target.wants/postgresql.service"):
        found.append("postgresql.service")
    return tuple(found)


def _kept(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value for name, value in environment.items() if name not in _DROPPED_VARIABLES and not name.startswith("NQR_CRASH_")
    }
