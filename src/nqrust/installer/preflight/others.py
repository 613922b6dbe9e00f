"""Checks for other installations, folders with other owners, and administrator's settings that conflict with this one."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from nqrust.contract import names, paths
from nqrust.host.content import content
from nqrust.host.port import Host, Kind
from nqrust.host.way import others_may_replace, way
from nqrust.installer.preflight.findings import Finding, error, warning
from nqrust.installer.settings.model import NetworkMode, Settings
from nqrust.installer.verbs.file.undo import KEPT_SUFFIX

UNIT_DIRS = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
_FORWARDING_OFF = re.compile(r"^\s*-?net[./]ipv4[./]ip_forward\s*=\s*0\s*$", re.MULTILINE)


def foreign_installation(settings: Settings, host: Host, known: bool, kept: frozenset[str]) -> Iterator[Finding]:
    """Refuse a non-empty INSTALL_DIR, and configuration, state or units with nqr's names, if nqr has no installation here.

    `known`: the journal has one (finished or not), so existing files are nqr's. `kept`: what an uninstall kept, such as dumps of
    the database.
    """
    if known:
        return
    install_dir = settings.paths.install_dir
    names_there = (f"{install_dir}/{name}" for name in _holds(host, install_dir))
    if any(not _is_kept(path, kept) for path in names_there):
        yield error(
            "NQR-PRE-015",
            f"{install_dir} holds another installation.",
            f"Remove it with its own uninstaller, move {install_dir} away, or choose another folder with INSTALL_DIR.",
        )
    layout = settings.layout
    for path in (layout.manager_env, layout.agent_env, layout.ui_env):
        if host.exists(path):
            yield error(
                "NQR-PRE-015",
                f"{path} belongs to another installation.",
                f"Remove that installation with its own uninstaller, or move {path} away (mv {path} {path}.old).",
            )
    left = [name for name in _holds(host, paths.STATE_DIR) if not name.startswith(".")]
    if left and not {posixpath.basename(paths.JOURNAL), posixpath.basename(paths.FINGERPRINT)} & set(left):
        yield error(
            "NQR-PRE-015",
            f"{paths.STATE_DIR} holds {left[0]}, which nqr did not make.",
            f"Move it away. nqr keeps its records in {paths.STATE_DIR}, and an uninstall removes that folder.",
        )
    seen: set[str] = set()
    for folder in UNIT_DIRS:
        for unit in names.UNITS.values():
            if unit not in seen and host.exists(f"{folder}/{unit}"):
                seen.add(unit)
                yield error(
                    "NQR-PRE-015",
                    f"{folder}/{unit} exists and was not made by nqr.",
                    f"Remove the other installation first (systemctl disable --now {unit}; rm {folder}/{unit}).",
                )


def folders_of_others(settings: Settings, host: Host, known: bool) -> Iterator[Finding]:
    """Refuse an image folder that belongs to someone else. nqr uses existing folders unchanged, except this one: root takes
    it over for the manager's group, and current users would lose access."""
    images = _taken_over(settings, known)
    stat = host.stat(images) if images else None
    if stat is not None and stat.kind is Kind.directory:
        whose = None
        if stat.owner != "root":
            whose = f"belongs to {stat.owner}"
        elif stat.mode & 0o020 and stat.group not in ("root", names.SERVICE_GROUP):
            whose = f"can be written by the group {stat.group}"
        elif stat.mode & 0o002:
            whose = "can be written by everybody"
        if whose:
            yield error(
                "NQR-PRE-033",
                f"{images} exists and {whose}. The manager would take it over.",
                f"Choose another folder with IMAGE_DIR, or hand it over (chown root:root {images}; chmod 755 {images}).",
            )


def _taken_over(settings: Settings, known: bool) -> str:
    """Return the folder that this install gives to the manager's group. Empty: an installation has done that, or there is no
    manager."""
    return settings.layout.image_dir if settings.has_manager and not known else ""


def ways(settings: Settings, host: Host, known: bool) -> Iterator[Finding]:
    """Refuse folders that another user than root can replace, and folders of VMs that a VM's own user cannot reach
    (path_resolution(7)). Also checked on an installed host: someone may have changed them."""
    layout, seen = settings.layout, set[str]()
    taken_over = _taken_over(settings, known)
    kept = [
        ("Programs that root runs", layout.install_dir, "them", "INSTALL_DIR"),
        ("Settings", layout.config_dir, "them", "CONFIG_DIR"),
        ("Images", layout.image_dir, "them", "IMAGE_DIR"),
    ]
    if settings.has_agent:
        kept.insert(0, ("VMs", layout.vms_dir, "the disks of VMs", "DATA_DIR"))
    for what, path, they, option in kept:
        for folder, stat in way(host, path):
            is_link, why, cure = stat.kind is Kind.symlink, None, ""
            if folder in seen or not (is_link or stat.kind is Kind.directory):
                continue
            if not is_link and path == folder == taken_over:  # `folders_of_others` says whose that one is
                continue
            seen.add(folder)
            if stat.owner != "root":
                why, cure = f"belongs to {stat.owner}, who could replace {they}", f"chown {'-h ' * is_link}root {folder}"
            elif not is_link and others_may_replace(stat):
                why, cure = f"can be written by other users, who could replace {they}", f"chmod go-w {folder}"
            elif not is_link and path == layout.vms_dir and not stat.mode & 0o001:
                why, cure = "keeps out the users that VMs run as", f"chmod o+x {folder}"
            if why:
                yield error(
                    "NQR-PRE-036",
                    f"{what} are kept in {path}, but {folder} {why}.",
                    f"Choose another folder with {option}, or change this one ({cure}).",
                )


def forwarding_turned_off(settings: Settings, host: Host, known: bool) -> Iterator[Finding]:
    """Warn if an administrator's drop-in (sysctl.d(5)) turns off forwarding, which VMs behind NAT need."""
    if known or not settings.has_agent or settings.network.mode is not NetworkMode.nat:
        return
    for path in (*host.glob("/etc/sysctl.d/*.conf"), "/etc/sysctl.conf"):
        stat = host.stat(path)
        if stat is not None and stat.kind is Kind.file and _FORWARDING_OFF.search(host.read_text(path)):
            yield warning(
                "NQR-PRE-034",
                f"{path} turns forwarding off (net.ipv4.ip_forward = 0). nqr leaves it and turns forwarding on at every boot.",
                "Use --network-mode isolated if this host must not forward.",
            )


def checks(settings: Settings, host: Host, known: bool, kept: frozenset[str]) -> Iterator[Finding]:
    yield from foreign_installation(settings, host, known, kept)
    yield from folders_of_others(settings, host, known)
    yield from ways(settings, host, known)
    yield from forwarding_turned_off(settings, host, known)


def _is_kept(path: str, kept: frozenset[str]) -> bool:
    return path in kept or any(one.startswith(f"{path}/") for one in kept)


def _holds(host: Host, path: str) -> list[str]:
    """Return the names in a folder, without lost+found and edits that an uninstall moved aside. Empty if the path is not a folder
    (the step for it reports that)."""
    stat = host.stat(path)
    names = content(host, path) if stat is not None and stat.kind is Kind.directory else []
    return [name for name in names if KEPT_SUFFIX not in name]
