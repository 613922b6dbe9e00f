"""Checks shared by all file steps: owner, mode, and the parent folder."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from nqrust.host.port import Host, Kind, Stat
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import Conflict


def mode_text(mode: int, owner: str, group: str) -> str:
    """Return mode and owners, such as `0640 root:nqrust`."""
    return f"{mode:04o} {owner}:{group}"


def same_access(stat: Stat, mode: int, owner: str, group: str) -> bool:
    """Compare mode and owners by name, because a user may not exist yet during planning."""
    return (stat.mode, stat.owner, stat.group) == (mode, owner, group)


def access_diff(path: str, stat: Stat, mode: int, owner: str, group: str) -> tuple[str, ...]:
    return (f"{path}: {mode_text(stat.mode, stat.owner, stat.group)} -> {mode_text(mode, owner, group)}",)


def not_a(kind: Kind, path: str, stat: Stat) -> Conflict:
    """Return the conflict for something of another kind at the path of a file, directory or symlink."""
    return Conflict(
        "NQR-CFG-101",
        f"{path} is a {stat.kind.value}, but nqr needs a {kind.value} there.",
        f"Move {path} away (or name another path), then run the same command again.",
    )


def require_parent(host: Host, path: str) -> None:
    """Check that the parent directory of `path` exists. Raises StepFailed NQR-CFG-102."""
    parent = posixpath.dirname(path)
    if not host.exists(parent):
        raise StepFailed(
            "NQR-CFG-102",
            f"{path} cannot be made because its directory {parent} does not exist.",
            f"Create {parent}, then run the same command again.",
        )


def kept_xattrs(host: Host, path: str) -> Mapping[str, bytes]:
    """Return extended attributes that a rewritten file keeps (ACLs and security labels; xattr(7))."""
    return host.xattrs(path)
