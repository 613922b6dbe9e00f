"""The files of a source tree that a build takes along."""

from __future__ import annotations

from collections.abc import Iterator

from nqrust.host.port import Host, Kind
from nqrust.installer.release.source_tree.workplace import LEFT_OUT


def files(host: Host, tree: str, folder: str = "") -> Iterator[tuple[str, str]]:
    """Yield path and relative path of each file and link below a folder of the tree, in a fixed order. Raises HostError."""
    for name in sorted(host.listdir(f"{tree}/{folder}".rstrip("/"))):
        relative = f"{folder}/{name}" if folder else name
        if name in LEFT_OUT or f"./{relative}" in LEFT_OUT:
            continue
        found = host.stat(f"{tree}/{relative}")
        if found is None:
            continue
        if found.kind is Kind.directory:
            yield from files(host, tree, relative)
        elif found.kind in (Kind.file, Kind.symlink):
            yield f"{tree}/{relative}", relative
