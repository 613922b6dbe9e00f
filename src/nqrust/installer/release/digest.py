"""One digest of a release's sources, so that a changed checkout is a new version."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from nqrust.host.port import Host, Kind

SOURCES = ("pyproject.toml", "README.md", "LICENSE", "src/nqrust", "guest-agent", "requirements")
"""Sources of the bundled release's artifacts; tests and documentation are not among them."""

_SKIPPED = frozenset({"__pycache__", "target", "node_modules", "build", "dist"})


def source_digest(host: Host, checkout: str, sources: tuple[str, ...] = SOURCES) -> str:
    """Return the hex sha256 of the relative paths and contents of `sources` below `checkout`, in a fixed order.

    Ignores hidden files, byte code, build output, modes and times, so a copy of a checkout has the original's digest. Raises
    HostError.
    """
    digest = hashlib.sha256()
    for path, relative in _files(host, checkout, sources):
        digest.update(f"{relative}\0{host.sha256(path)}\n".encode())
    return digest.hexdigest()


def _files(host: Host, checkout: str, sources: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for relative in sources:
        path = f"{checkout}/{relative}"
        found = host.stat(path)
        if found is None:
            continue
        if found.kind is Kind.file:
            yield path, relative
        elif found.kind is Kind.directory:
            inside = tuple(
                f"{relative}/{name}"
                for name in host.listdir(path)
                if name not in _SKIPPED and not name.startswith(".") and not name.endswith((".pyc", ".egg-info"))
            )
            yield from _files(host, checkout, inside)
