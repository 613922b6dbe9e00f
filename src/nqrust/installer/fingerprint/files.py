"""Files: type, mode, owner, content and extended attributes. No times, because restoring an original changes them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from nqrust.host import mounts
from nqrust.host.errors import HostError, PathMissing
from nqrust.host.facts.reading import text
from nqrust.host.port import Host, Kind, Stat
from nqrust.installer.fingerprint import volatile
from nqrust.installer.fingerprint.model import Section

ROOTS = ("/etc", "/opt", "/srv", "/usr/local", "/var/lib", "/var/spool/cron")

NAMES_ONLY = ("/", "/root", "/home", "/var", "/var/log", "/var/cache", "/var/spool", "/var/tmp", "/mnt", "/media")
"""Folders in which a new folder would be a leftover, but whose content is not configuration: only the names of their folders
count."""

LARGE = 16 << 20  # bytes
"""Files of this size or more are compared by size and change time: disks of VMs have gigabytes, and hiding a change in both
takes intent. Smaller files are hashed."""

_FOREIGN = ("nfs", "cifs", "smb", "fuse", "autofs", "proc", "sysfs", "cgroup", "nsfs", "9p", "ceph")
"""File systems of other hosts, or without a disk: the walk does not enter them."""

_DATABASE_CONFIGURATION = (".conf", "PG_VERSION")


_BATCH = 100
_WORKERS = 4  # hashing releases the interpreter lock, and a cold disk serves several readers faster than one


def take(host: Host, unread: list[str], roots: tuple[str, ...] = ROOTS) -> Section:
    walk = _Walk(host, unread)
    entries: list[tuple[str, Stat]] = []
    for root in roots:
        entry = host.stat(root)
        if entry is not None:
            entries.extend(walk.below(root, entry))
    batches = [entries[start : start + _BATCH] for start in range(0, len(entries), _BATCH)]
    found: Section = {}
    with ThreadPoolExecutor(_WORKERS) as workers:
        for described, failures in workers.map(lambda batch: _describe_all(host, batch), batches):
            found.update(described)
            unread.extend(failures)
    return found


def take_names(host: Host) -> Section:
    """Return mode and owner of each folder directly in NAMES_ONLY."""
    found: Section = {}
    for folder in NAMES_ONLY:
        try:
            names = host.listdir(folder)
        except HostError:
            continue
        for name in names:
            path = f"{folder.rstrip('/')}/{name}"
            entry = host.stat(path)
            if entry is not None and entry.kind is Kind.directory:
                found[path] = [f"{entry.mode:04o}", entry.owner, entry.group]
    return found


class _Walk:
    """Finds the files to describe. Enters only file systems of this host."""

    def __init__(self, host: Host, unread: list[str]) -> None:
        self.host, self.unread = host, unread
        self.volatile = volatile.paths()
        self.closed = {path for path, _ in volatile.CLOSED}
        self.mounted = {mount.mount_point: mount.fstype for mount in mounts.parse_mountinfo(text(host, mounts.MOUNTINFO))}

    def below(self, root: str, entry: Stat) -> Iterator[tuple[str, Stat]]:
        left: list[tuple[str, Stat]] = [(root, entry)]
        while left:
            path, entry = left.pop()
            if self.volatile.match(path):
                continue
            yield path, entry
            if entry.kind is not Kind.directory or path in self.closed:
                continue
            if self.mounted.get(path, "").startswith(_FOREIGN):
                continue
            try:
                left.extend(self._inside(path))
            except HostError as error:
                self.unread.append(str(error))

    def _inside(self, path: str) -> Iterator[tuple[str, Stat]]:
        names = self.host.listdir(path)
        # A PostgreSQL data directory, which the server writes all the time. Another section compares its roles and databases;
        # this one only records that it exists, and its configuration.
        if "PG_VERSION" in names and "global" in names:
            names = [name for name in names if name.endswith(_DATABASE_CONFIGURATION)]
        for name in names:
            below = f"{path}/{name}"
            entry = self.host.stat(below)
            if entry is not None:
                yield below, entry


def _describe_all(host: Host, entries: list[tuple[str, Stat]]) -> tuple[Section, list[str]]:
    described: Section = {}
    failures: list[str] = []
    for path, entry in entries:
        try:
            described[path] = _describe(host, path, entry)
        except PathMissing:
            continue  # gone since the listing
        except HostError as error:
            failures.append(str(error))
    return described, failures


def _describe(host: Host, path: str, entry: Stat) -> list[object]:
    """Return [type, mode, owner, group, content], and any extended attributes in hex."""
    content = ""
    if entry.kind is Kind.file:
        large = entry.size >= LARGE
        content = f"{entry.size} bytes, {entry.mtime_ns}" if large else host.sha256(path)
    elif entry.kind is Kind.symlink:
        content = host.readlink(path)
    described: list[object] = [entry.kind.value, f"{entry.mode:04o}", entry.owner, entry.group, content]
    attributes = host.xattrs(path) if entry.kind is not Kind.other else {}
    if attributes:
        described.append({name: value.hex() for name, value in sorted(attributes.items())})
    return described
