"""The release that a source tree in upstream's form makes, told before its build."""

from __future__ import annotations

import hashlib

from nqrust.host.port import Host, Kind
from nqrust.installer.release import upstream
from nqrust.installer.release.descriptor import Release
from nqrust.installer.release.source_tree import cargo_workspace
from nqrust.installer.release.source_tree.files import files


def describe(host: Host, tree: str, *, with_ui: bool) -> Release:
    """Return the release, without artifacts. Its version has a digest of the tree, so a changed tree is a new version. Reads only.
    Raises ReleaseError, HostError."""
    workspace = cargo_workspace.read(host, tree)
    digest = hashlib.sha256()
    for path, relative in files(host, tree):
        found = host.stat(path)
        if found is not None and found.kind is Kind.symlink:
            digest.update(f"{relative}\0-> {host.readlink(path)}\n".encode())
        else:
            digest.update(f"{relative}\0{host.sha256(path)}\n".encode())
    names = [upstream.ASSETS[name] for name in cargo_workspace.PACKAGES]
    if with_ui and workspace.ui:
        names.append(upstream.ASSETS["ui"])
    separator = "." if "+" in workspace.version else "+"
    return upstream.release(f"{workspace.version}{separator}{digest.hexdigest()[:12]}", names)
