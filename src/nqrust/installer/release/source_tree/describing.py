"""The release that a source tree in upstream's form makes, told before its build."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from nqrust.host.port import Host, Kind
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.release import upstream
from nqrust.installer.release.descriptor import Release
from nqrust.installer.release.source_tree import cargo_workspace
from nqrust.installer.release.source_tree.workplace import LEFT_OUT

_CHECKED = re.compile(r"\bquery(?:_as|_scalar|_file|_file_as|_file_scalar)?!\s*[(\[{]")
"""sqlx's macros that ask a database while they compile. Their unchecked forms have other names."""


def describe(host: Host, tree: str, *, with_ui: bool) -> Release:
    """Return the release, without artifacts. Its version has a digest of the tree, so a changed tree is a new version. Reads only.
    Raises ReleaseError, HostError."""
    workspace = cargo_workspace.read(host, tree)
    digest, asks, uses = hashlib.sha256(), "", False
    for path, relative in _files(host, tree, ""):
        found = host.stat(path)
        if found is not None and found.kind is Kind.symlink:
            digest.update(f"{relative}\0-> {host.readlink(path)}\n".encode())
            continue
        digest.update(f"{relative}\0{host.sha256(path)}\n".encode())
        if relative.endswith(".rs") and not asks and _CHECKED.search(host.read_text(path)):
            asks = relative
        uses = uses or (relative.endswith("Cargo.toml") and re.search(r"(?m)^sqlx\b", host.read_text(path)) is not None)
    if asks and uses and not workspace.sqlx_offline:
        raise ReleaseError(
            "NQR-REL-080",
            f"{tree}/{asks} checks its queries against a database while it compiles, and the tree has no prepared queries (.sqlx).",
            "Run `cargo sqlx prepare --workspace` in the tree on a machine with its database, then run the same command again.",
        )
    names = [upstream.ASSETS[name] for name in cargo_workspace.PACKAGES]
    if with_ui and workspace.ui:
        names.append(upstream.ASSETS["ui"])
    separator = "." if "+" in workspace.version else "+"
    return upstream.release(f"{workspace.version}{separator}{digest.hexdigest()[:12]}", names)


def _files(host: Host, tree: str, folder: str) -> Iterator[tuple[str, str]]:
    """Yield path and relative path of each file and link of the tree that a build takes along, in a fixed order."""
    for name in sorted(host.listdir(f"{tree}/{folder}".rstrip("/"))):
        relative = f"{folder}/{name}" if folder else name
        if name in LEFT_OUT or f"./{relative}" in LEFT_OUT:
            continue
        found = host.stat(f"{tree}/{relative}")
        if found is None:
            continue
        if found.kind is Kind.directory:
            yield from _files(host, tree, relative)
        elif found.kind in (Kind.file, Kind.symlink):
            yield f"{tree}/{relative}", relative
