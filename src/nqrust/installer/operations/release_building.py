"""release build."""

from __future__ import annotations

import os
import sys

from nqrust.host.local import LocalHost
from nqrust.host.port import Host
from nqrust.installer.engine.progress import Progress
from nqrust.installer.release import node_wheel
from nqrust.installer.release.interpreter import interpreter
from nqrust.installer.release.source_tree import build, cargo_workspace, web


def build_release(tree: str, to: str, scratch: str, *, with_ui: bool, checkout: str, progress: Progress) -> str:
    """Build a release folder from a source tree in upstream's form and return the version. `scratch`: a new folder for the build.
    `checkout`: the source tree of nqr, "" if nqr is installed. Raises ReleaseError, StepFailed, HostError."""
    host, tools = LocalHost(), f"{scratch}.tools"
    build.refuse_scratch_of_others(host, scratch)
    try:
        node = (
            _node(host, checkout, tools, progress) if with_ui and host.exists(f"{tree}/{cargo_workspace.UI}/package.json") else ""
        )
        return build.build(host, tree=tree, to=to, scratch=scratch, with_ui=with_ui, progress=progress, node=node)
    finally:
        host.remove_tree(tools, synced=False)


def _node(host: Host, checkout: str, tools: str, progress: Progress) -> str:
    """Return a folder with Node.js from the Python package index where the host has none that serves, else "". It goes after the
    build. Raises StepFailed NQR-REL-081."""
    if web.has_node(host):
        return ""
    folder = checkout or f"{os.path.dirname(sys.prefix)}/bundle"  # of the installation, beside its environment
    lock = f"{folder}/{node_wheel.LOCK}"
    return node_wheel.fetch(host, lock=lock, cache=tools, runner=interpreter().runner, progress=progress)
