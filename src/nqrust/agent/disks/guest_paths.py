"""Paths in a guest's file system, which the host never follows. Pure."""

from __future__ import annotations


def parents(path: str) -> list[str]:
    """Return the folders above the absolute `path`, outermost first, without the root."""
    parts = path.split("/")[1:-1]
    return ["/" + "/".join(parts[: n + 1]) for n in range(len(parts))]
