"""Build of a release folder in upstream's form from a source tree in upstream's form."""

from __future__ import annotations

import json
import posixpath
from contextlib import nullcontext

from nqrust.host.errors import translating
from nqrust.host.placing import place_content, place_folder
from nqrust.host.port import Host, Kind
from nqrust.host.way import led_by_others
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.engine.progress import Progress
from nqrust.installer.release import upstream
from nqrust.installer.release.source_tree import cargo_workspace, queries, rust, rustup, web
from nqrust.installer.release.source_tree.forms import UPSTREAM, form_of
from nqrust.installer.release.source_tree.workplace import Workplace, close_workplace, failed, open_workplace


def build(host: Host, *, tree: str, to: str, scratch: str, with_ui: bool, progress: Progress, node: str = "") -> str:
    """Build the tree into the new folder `to` and return the version. Writes the output of all tools to `to`.log.

    `scratch`: a folder that does not exist yet, on a disk with room for the build; removed at the end. `to` appears complete or
    not at all, also in a folder of another user. `node`: a folder with Node.js and npm, in place of the host's. Raises
    ReleaseError, HostError.
    """
    if form_of(host, tree) != UPSTREAM:
        raise ReleaseError(
            "NQR-REL-096",
            f"{tree} is not a Cargo workspace with manager, agent and guest-agent.",
            "Name such a source tree.",
        )
    if host.stat(to) is not None:
        raise ReleaseError("NQR-REL-097", f"{to} exists already.", "Name a new folder with --to.")
    if not host.exists(posixpath.dirname(to)):
        raise ReleaseError(
            "NQR-REL-097", f"The folder {posixpath.dirname(to)} does not exist.", "Create it, or name another with --to."
        )
    of_others = led_by_others(host, posixpath.dirname(to), host.euid()) is not None
    workspace = cargo_workspace.read(host, tree)
    sysroot = rust.toolchain(host, workspace.rust)
    asks = queries.asking(host, tree, workspace)
    queries.need_server(host, asks)
    with_ui = with_ui and workspace.ui
    if with_ui and not node:
        web.require_node(host)
    lines: list[str] = []
    place: Workplace | None = None
    try:
        place = open_workplace(host, scratch, tree, progress)
        lines = place.lines
        cargo = rust.cargo_of(place, sysroot or rustup.install(place, workspace.rust))
        with queries.database(place, workspace, cargo) if asks else nullcontext("") as database:
            built = rust.build(place, workspace, cargo, database)
        place.run("cp", *built.values(), f"{scratch}/out/")
        if with_ui:
            built["ui"] = web.build(place, workspace, node)
        work = f"{scratch}/release" if of_others else f"{to}.building"
        _collect(host, place, built, work, workspace.version)
        if of_others:
            with translating(to):
                place_folder(work, to)
        else:
            host.rename(work, to)
    finally:
        try:
            if lines:
                _keep(host, ("\n".join(lines) + "\n").encode(), f"{to}.log", of_others)
        finally:
            if place is not None:
                close_workplace(place)
            else:
                host.remove_tree(scratch, synced=False)
    return workspace.version


def refuse_scratch_of_others(host: Host, scratch: str) -> None:
    """Raise ReleaseError NQR-REL-098 if another user could put a link in the place of the scratch folder."""
    parent = posixpath.dirname(scratch)
    theirs = led_by_others(host, parent, host.euid())
    if theirs is not None:
        raise ReleaseError(
            "NQR-REL-098",
            f"Users other than root can change {theirs}, so nqr builds nothing in {parent}.",
            "Name another folder with --scratch, such as /var/tmp.",
        )


def _keep(host: Host, log: bytes, path: str, of_others: bool) -> None:
    if not of_others:
        host.write_file(path, log, mode=0o600)
        return
    with translating(path):
        place_content(log, path, mode=0o600)


def _collect(host: Host, place: Workplace, built: dict[str, str], work: str, version: str) -> None:
    """Copy the results into the new folder `work`, after every program of the build has ended: nobody can replace them meanwhile."""
    host.kill_all_of(place.number, place.number + 1)
    host.remove_tree(work)
    host.mkdir(work, mode=0o755)
    sums = []
    for component, source in built.items():
        name = upstream.ASSETS[component]
        path = f"{place.folder}/out/{posixpath.basename(source)}"
        found = host.stat(path)
        if found is None or found.kind is not Kind.file or found.size == 0:
            raise failed("cargo" if component != "ui" else "next", f"it left no {name}")
        head = host.read_bytes(path, 1 << 16)
        if component != "ui" and not head.startswith(b"\x7fELF"):
            raise failed("cargo", f"{component} is not a program")
        if component == "guest-agent" and b"/ld-" in head:
            raise failed("cargo", "guest-agent is not static")
        host.copy_file(path, f"{work}/{name}", mode=0o644 if component == "ui" else 0o755, seen=found)
        sums.append(f"{host.sha256(f'{work}/{name}')}  {name}\n")
    manifest = {"version": version, "assets": [upstream.ASSETS[component] for component in built]}
    host.write_file(f"{work}/{upstream.MANIFEST}", (json.dumps(manifest, indent=2) + "\n").encode())
    sums.append(f"{host.sha256(f'{work}/{upstream.MANIFEST}')}  {upstream.MANIFEST}\n")
    head_lines = f"# product: nqrust-microvm\n# version: {version}\n# architecture: x86_64\n"
    host.write_file(f"{work}/{upstream.CHECKSUMS}", (head_lines + "".join(sums)).encode())
