"""The repository's own files, as the architecture tests see them."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

from tests.places import ROOT


@cache
def files() -> tuple[Path, ...]:
    """Every file that is or would be in the repository: tracked or new, not ignored."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "-z"], capture_output=True, check=True
    ).stdout
    paths = (ROOT / name.decode() for name in sorted(set(listed.split(b"\0"))) if name)
    return tuple(path for path in paths if path.is_file() and not path.is_symlink())


def text_of(path: Path) -> str:
    """Content of a text file; empty for anything else."""
    data = path.read_bytes()
    if b"\0" in data:
        return ""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return ""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def below(*folders: str, suffix: str = "") -> list[Path]:
    """Files below the named folders of the repository."""
    tops = tuple(f"{folder}/" for folder in folders)
    return [path for path in files() if name_of(path).startswith(tops) and path.name.endswith(suffix)]
