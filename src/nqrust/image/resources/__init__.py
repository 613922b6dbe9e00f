"""Files that are copied into images unchanged. Shell scripts among them run in the guest, under busybox."""

from __future__ import annotations

from importlib.resources import files


def read(name: str) -> bytes:
    """Return the content of a resource by its path below this package."""
    return files(__name__).joinpath(name).read_bytes()
