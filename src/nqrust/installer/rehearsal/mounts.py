"""Selects the host's file systems for the clone, and how to mount each. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from nqrust.host.mounts import Mount, is_at_or_below
from nqrust.installer.rehearsal.spec import CloneMount

_OWN = ("/proc", "/sys", "/dev", "/run")
"""The clone has its own: kernel interfaces, and sockets of services."""
_PSEUDO = frozenset({
    "proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "mqueue", "hugetlbfs", "debugfs", "tracefs", "securityfs",
    "pstore", "bpf", "configfs", "fusectl", "binfmt_misc", "efivarfs", "autofs", "nsfs", "rpc_pipefs", "ramfs", "selinuxfs",
})  # fmt: skip
_READ_ONLY = ("squashfs", "iso9660", "erofs", "nfs", "cifs", "smb", "fuse", "9p", "ceph", "vfat", "msdos", "exfat", "ntfs")
"""Prefixes of types that cannot be below an overlay, or that other hosts share: readable, never written."""
_LAYERS = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "tmpfs"})
"""Types that support an overlay's upper layer (extended attributes and whiteouts)."""


def clone_mounts(mounts: Iterable[Mount], files: frozenset[str] = frozenset()) -> tuple[tuple[CloneMount, ...], tuple[str, ...]]:
    """Return the mounts for the clone, parents first, and the omitted mount points. `files`: mount points that are files."""
    visible: dict[str, Mount] = {}
    for mount in mounts:
        # A later mount hides earlier mounts at or below its mount point.
        for hidden in [path for path in visible if is_at_or_below(path, mount.mount_point)]:
            del visible[hidden]
        visible[mount.mount_point] = mount
    made, left_out = [], []
    for path in sorted(visible):
        mount = visible[path]
        if any(is_at_or_below(path, own) for own in _OWN) or mount.fstype in _PSEUDO:
            continue
        if mount.fstype == "overlay" and path != "/":
            left_out.append(path)  # a container's root, which is another machine
        elif path in files or mount.fstype.startswith(_READ_ONLY) or ("ro" in mount.options and path != "/"):
            made.append(CloneMount(path, "bind", mount.fstype))
        else:
            made.append(CloneMount(path, "overlay", mount.fstype))
    return tuple(made), tuple(left_out)


def can_take_writes(fstype: str) -> bool:
    """Return whether this type of file system can hold an overlay's upper layer."""
    return fstype in _LAYERS
