"""Builds the web UI of a workspace with pnpm and Next.js: its standalone output, as an archive that `node server.js` starts.

See "output" in the documentation of Next.js's configuration.
"""

from __future__ import annotations

import posixpath
import re

from nqrust.host.errors import HostError
from nqrust.host.port import Host, Kind, command
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.release.source_tree.cargo_workspace import UI, Workspace
from nqrust.installer.release.source_tree.workplace import Workplace

OLDEST = 20
_QUIET = {"NEXT_TELEMETRY_DISABLED": "1", "npm_config_update_notifier": "false", "NO_COLOR": "1"}


def has_node(host: Host) -> bool:
    """Return whether this host has a Node.js from OLDEST on, and npm."""
    try:
        require_node(host)
    except ReleaseError:
        return False
    return True


def require_node(host: Host) -> None:
    """Raise ReleaseError NQR-REL-094 if this host has no Node.js from OLDEST on, or no npm."""
    cure = f"Install Node.js {OLDEST} or later with npm, then run again. Or build without the web UI: --no-ui."
    node = host.which("node")
    if node is None or host.which("npm") is None:
        raise ReleaseError("NQR-REL-094", "This host has no Node.js with npm, which builds the web UI.", cure)
    try:
        said = host.run(command(node, "--version", timeout=60)).stdout.strip()
    except HostError as error:
        raise ReleaseError("NQR-REL-094", f"{node} does not run: {error}.", cure) from error
    found = re.match(r"v(\d+)\.", said)
    if found is None or int(found[1]) < OLDEST:
        raise ReleaseError("NQR-REL-094", f"The Node.js of this host is too old for the web UI: {said}.", cure)


def build(place: Workplace, workspace: Workspace, node: str) -> str:
    """Build the UI and return the path of its archive. pnpm comes from npm's registry into the scratch folder. `node`: a folder with
    bin/node and lib/node_modules/npm, or "" for the programs of this host. Raises ReleaseError."""
    path: tuple[str, ...] = ()
    npm: tuple[str, ...] = ("npm",)
    if node:
        seen = place.show("node", node)
        path, npm = (f"{seen}/bin",), (f"{seen}/bin/node", f"{seen}/lib/node_modules/npm/bin/npm-cli.js")
    tree, tools = f"{place.folder}/tree", f"{place.folder}/home/tools"
    pnpm = f"{tools}/node_modules/.bin/pnpm"
    place.progress("preparing pnpm", 0.6)
    wanted = ("install", "--no-save", "--prefix", tools, f"pnpm@{workspace.pnpm}")
    place.run(*npm, *wanted, env=_QUIET, cwd=place.folder + "/home", path=path)
    place.progress("installing the packages of the web UI", 0.65)
    where = posixpath.normpath(f"{tree}/{workspace.lock}")
    place.run(pnpm, "install", "--frozen-lockfile", cwd=where, env=_QUIET, path=path)
    place.progress("building the web UI", 0.75)
    place.run(pnpm, "run", "build", cwd=f"{tree}/{UI}", env={**_QUIET, "NODE_ENV": "production"}, path=path)
    return _pack(place)


def _pack(place: Workplace) -> str:
    built = f"{place.folder}/tree/{UI}/.next"
    whole, archive = f"{built}/standalone", f"{place.folder}/out/ui.tar"
    inner = next((folder for folder in (whole, f"{whole}/{UI}") if place.host.exists(f"{folder}/server.js")), None)
    if inner is None:
        raise ReleaseError(
            "NQR-REL-095",
            f"The build of {UI} left no .next/standalone/server.js.",
            "Set output: 'standalone' in the tree's next.config, then run again.",
        )
    place.progress("packing the web UI", 0.95)
    place.run("mkdir", "-p", f"{inner}/.next")
    place.run("cp", "-R", f"{built}/static", f"{inner}/.next/static")
    public = place.host.stat(f"{place.folder}/tree/{UI}/public")
    if public is not None and public.kind is Kind.directory and not place.host.exists(f"{inner}/public"):
        place.run("cp", "-R", f"{place.folder}/tree/{UI}/public", f"{inner}/public")
    if inner != whole:  # a workspace of pnpm: the packages are beside apps
        start = f"process.chdir(__dirname + '/{UI}')\nrequire('./{UI}/server.js')\n"
        place.run("sh", "-c", 'printf %s "$1" >"$2"', "sh", start, f"{whole}/server.js")
    place.run(
        "tar", "--sort=name", "--mtime=@1704067200", "--owner=0", "--group=0", "--numeric-owner", "--mode=u+rw,go+rX,go-w",
        "-C", whole, "-cf", archive, ".",
    )  # fmt: skip
    place.run("gzip", "-n", archive)
    return f"{archive}.gz"
