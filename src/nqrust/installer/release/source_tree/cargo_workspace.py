"""A source tree in upstream's form, as its files describe it: a Cargo workspace with the packages `manager`, `agent` and
`guest-agent`, and a web UI for pnpm and Next.js in `apps/ui`. Reads only, and starts no program.

See "The [workspace] section" in the Cargo Book, and `packageManager` in Node's documentation of Corepack.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from nqrust.host.errors import PathMissing
from nqrust.host.port import Host
from nqrust.installer.engine.errors import ReleaseError

PACKAGES = ("manager", "agent", "guest-agent")
UI = "apps/ui"
PNPM = "9"
"""pnpm where package.json names none."""
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+~-]*")


@dataclass(frozen=True)
class Workspace:
    """A tree. `version`: of the workspace, or of its manager. `ui`: whether it has a web UI. `lock`: folder of pnpm's lock, relative
    to the tree. `pnpm`: the version of pnpm that the UI names. `sqlx_offline`: whether queries are prepared (`cargo sqlx prepare`)."""

    version: str
    ui: bool = False
    lock: str = ""
    pnpm: str = PNPM
    sqlx_offline: bool = False


def fits(host: Host, tree: str) -> bool:
    """Return whether the folder holds a Cargo workspace with a package of PACKAGES."""
    manifest = f"{tree}/Cargo.toml"
    if not host.exists(manifest) or _table(host.read_text(manifest), "workspace") is None:
        return False
    return bool(set(PACKAGES) & _packages(host, tree).keys())


def read(host: Host, tree: str) -> Workspace:
    """Return what the tree holds. Raises ReleaseError NQR-REL-090 for an incomplete one, HostError."""
    packages = _packages(host, tree)
    for name in PACKAGES:
        if name not in packages:
            raise _incomplete(tree, f"no package {name} in its workspace")
    if not host.exists(f"{tree}/Cargo.lock"):
        raise _incomplete(tree, "no Cargo.lock")
    shared = _text(_table(host.read_text(f"{tree}/Cargo.toml"), "workspace.package") or "", "version")
    version = _text(packages["manager"], "version") or shared
    if not _VERSION.fullmatch(version):
        raise _incomplete(tree, "no version of its manager")
    offline = any(host.exists(f"{tree}/{folder}.sqlx") for folder in ("", "manager/", "apps/manager/", "crates/manager/"))
    if not host.exists(f"{tree}/{UI}/package.json"):
        return Workspace(version, sqlx_offline=offline)
    lock = next((folder for folder in (UI, ".") if host.exists(f"{tree}/{folder}/pnpm-lock.yaml")), None)
    if lock is None:
        raise _incomplete(tree, f"no pnpm-lock.yaml for {UI}")
    return Workspace(version, True, lock, _pnpm(host, tree), offline)


def _packages(host: Host, tree: str) -> dict[str, str]:
    """Return package name -> the [package] table of its manifest."""
    members = re.search(r"(?ms)^members\s*=\s*\[(.*?)\]", _table(host.read_text(f"{tree}/Cargo.toml"), "workspace") or "")
    found = {}
    for pattern in re.findall(r'"([^"]+)"', re.sub(r"(?m)#.*$", "", members[1])) if members else ():
        for manifest in host.glob(f"{tree}/{pattern}/Cargo.toml"):
            table = _table(host.read_text(manifest), "package") or ""
            found[_text(table, "name")] = table
    return found


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


def _table(text: str, name: str) -> str | None:
    found = re.search(rf"(?ms)^\[{re.escape(name)}\]\s*$(.*?)(?=^\[|\Z)", text)
    return found[1] if found else None


def _text(table: str, key: str) -> str:
    found = re.search(rf'(?m)^{key}\s*=\s*"([^"]*)"', table)
    return found[1] if found else ""


def _incomplete(tree: str, what: str) -> ReleaseError:
    return ReleaseError(
        "NQR-REL-090",
        f"{tree} is not a complete source tree: {what}.",
        "Name a complete copy of the repository, with its lock files.",
    )
