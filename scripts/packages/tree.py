"""The part of the source tree that installs the platform: the checkout of install.sh, without tests and documentation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nqrust.host.local import LocalHost
from nqrust.installer.release.bundled import describe_checkout

PARTS = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "src", "guest-agent", "requirements", "scripts/install")
_SKIPPED = frozenset({"__pycache__", "target", "node_modules"})


def files(root: Path) -> Iterator[tuple[str, Path]]:
    """Return (path relative to the tree, file), in a fixed order."""
    for part in PARTS:
        top = root / part
        for path in sorted(top.rglob("*")) if top.is_dir() else (top,):
            names = path.relative_to(root).parts
            hidden = any(name in _SKIPPED or name.startswith(".") or name.endswith(".egg-info") for name in names)
            if path.is_file() and not path.is_symlink() and not hidden and path.suffix != ".pyc":
                yield "/".join(names), path


def mode(path: Path) -> int:
    """Return 0755 for a program and 0644 for any other file, whatever the umask of the checkout was."""
    return 0o755 if path.stat().st_mode & 0o100 else 0o644


def version(root: Path) -> str:
    """Return the version of the release that this tree makes, such as `0.2.0+1a2b3c4d5e6f`."""
    return describe_checkout(LocalHost(), str(root)).version
