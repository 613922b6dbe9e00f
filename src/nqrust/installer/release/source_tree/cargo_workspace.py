"""A source tree in upstream's form, as its files describe it: a Cargo workspace with the packages `manager`, `agent` and
`guest-agent`, and a web UI for pnpm and Next.js in `apps/ui`. Reads only, and starts no program.

See "The [workspace] section" in the Cargo Book, and `packageManager` in Node's documentation of Corepack.
"""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import dataclass, field, replace

from nqrust.host.errors import PathMissing
from nqrust.host.port import Host
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.release.source_tree.manifests import string, strings, table
from nqrust.installer.release.source_tree.wanted_rust import WantedRust, wanted_rust

PACKAGES = ("manager", "agent", "guest-agent")
UI = "apps/ui"
PNPM = "9"
"""pnpm where package.json names none."""
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+~-]*")


@dataclass(frozen=True)
class Workspace:
    """A tree. `version`: of the workspace, or of its manager. `ui`: whether it has a web UI. `lock`: folder of pnpm's lock, relative
    to the tree. `pnpm`: the version of pnpm that the UI names. `sqlx_offline`: whether queries are prepared (`cargo sqlx prepare`).
    `sqlx`: the version in Cargo.lock, or "". `migrations`: the manager's folder of sqlx's migrations, relative to the tree, or "".
    `rust`: the toolchain that the tree asks for."""

    version: str
    ui: bool = False
    lock: str = ""
    pnpm: str = PNPM
    sqlx_offline: bool = False
    sqlx: str = ""
    migrations: str = ""
    rust: WantedRust = field(default_factory=WantedRust)


def fits(host: Host, tree: str) -> bool:
    """Return whether the folder holds a Cargo workspace with a package of PACKAGES."""
    manifest = f"{tree}/Cargo.toml"
    if not host.exists(manifest) or table(host.read_text(manifest), "workspace") is None:
        return False
    return bool(set(PACKAGES) & _manifests(host, tree).keys())


def read(host: Host, tree: str) -> Workspace:
    """Return what the tree holds. Raises ReleaseError NQR-REL-090 for an incomplete one, HostError."""
    root, packages = host.read_text(f"{tree}/Cargo.toml"), _manifests(host, tree)
    for name in PACKAGES:
        if name not in packages:
            raise _incomplete(tree, f"no package {name} in its workspace")
    if not host.exists(f"{tree}/Cargo.lock"):
        raise _incomplete(tree, "no Cargo.lock")
    texts = {path: host.read_text(path) for path in packages.values()}
    manager = packages["manager"]
    version = string(table(texts[manager], "package") or "", "version") or string(
        table(root, "workspace.package") or "", "version"
    )
    if not _VERSION.fullmatch(version):
        raise _incomplete(tree, "no version of its manager")
    found = Workspace(
        version,
        sqlx_offline=any(host.exists(f"{tree}/{folder}.sqlx") for folder in ("", *_places(tree, manager))),
        sqlx=_locked(host.read_text(f"{tree}/Cargo.lock"), "sqlx"),
        migrations=next(
            (f"{folder}migrations" for folder in _places(tree, manager) if host.exists(f"{tree}/{folder}migrations")), ""
        ),
        rust=wanted_rust(host, tree, (root, *texts.values())),
    )
    if not host.exists(f"{tree}/{UI}/package.json"):
        return found
    lock = next((folder for folder in (UI, ".") if host.exists(f"{tree}/{folder}/pnpm-lock.yaml")), None)
    if lock is None:
        raise _incomplete(tree, f"no pnpm-lock.yaml for {UI}")
    return replace(found, ui=True, lock=lock, pnpm=_pnpm(host, tree))


def _places(tree: str, manifest: str) -> tuple[str, str]:
    """Return the folders that can hold what belongs to a package, relative to the tree: its own, and the tree itself."""
    return (f"{posixpath.relpath(posixpath.dirname(manifest), tree)}/", "")


def _manifests(host: Host, tree: str) -> dict[str, str]:
    """Return package name -> path of its manifest."""
    found = {}
    for pattern in strings(table(host.read_text(f"{tree}/Cargo.toml"), "workspace") or "", "members"):
        for manifest in host.glob(f"{tree}/{pattern}/Cargo.toml"):
            found[string(table(host.read_text(manifest), "package") or "", "name")] = manifest
    return found


def _locked(lock: str, name: str) -> str:
    found = re.search(rf'(?m)^name = "{name}"\nversion = "([^"]+)"', lock)
    return found[1] if found else ""


def _pnpm(host: Host, tree: str) -> str:
    for folder in (UI, "."):
        try:
            stated = json.loads(host.read_text(f"{tree}/{folder}/package.json")).get("packageManager", "")
        except (ValueError, AttributeError, PathMissing):
            continue
        match = re.fullmatch(r"pnpm@(\d+\.\d+\.\d+)(?:\+.*)?", str(stated))
        if match:
            return match[1]
    return PNPM


def _incomplete(tree: str, what: str) -> ReleaseError:
    return ReleaseError(
        "NQR-REL-090",
        f"{tree} is not a complete source tree: {what}.",
        "Name a complete copy of the repository, with its lock files.",
    )
