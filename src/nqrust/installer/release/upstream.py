"""A release from upstream (static binaries, a Next.js UI) as an nqr descriptor.

Its assets: `nqrust-{manager,agent,guest-agent}-x86_64-linux-musl`, `nqrust-ui.tar.gz`, `checksums.txt` (sha256sum(1)
format), `release-manifest.json`; images (`*.ext4`) and kernels on some tags. Upstream signs nothing (`signature` names who
does). No binary accepts `--version`, so the version comes from the manifest or the tag, never from running a binary.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from typing import Any

from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.release.descriptor import Artifact, Component, ComponentKind, ImageSource, Release
from nqrust.installer.release.upstream_privileges import PRIVILEGES

ASSETS = {
    "manager": "nqrust-manager-x86_64-linux-musl",
    "agent": "nqrust-agent-x86_64-linux-musl",
    "guest-agent": "nqrust-guest-agent-x86_64-linux-musl",
    "ui": "nqrust-ui.tar.gz",
}
CHECKSUMS = "checksums.txt"
MANIFEST = "release-manifest.json"

_RUNS: dict[str, dict[str, Any]] = {
    "manager": {
        "kind": ComponentKind.binary,
        "start": ("{bin}/manager",),
        "env_file": "manager.env",
        "port_variable": "MANAGER_BIND",
        "health": "/health",
        "run_as": "service",
    },
    "agent": {
        "kind": ComponentKind.binary,
        "start": ("{bin}/agent",),
        "env_file": "agent.env",
        "port_variable": "AGENT_BIND",
        "health": "/agent/v1/health",
        "run_as": "root",
        "packages": ("screen", "iproute2"),
    },
    "guest-agent": {"kind": ComponentKind.binary},
    "ui": {
        "kind": ComponentKind.node,
        "start": ("node", "server.js"),
        "env_file": "ui.env",
        "port_variable": "PORT",
        "health": "/",
        "run_as": "service",
        "packages": ("nodejs",),
    },
}


def parse_checksums(text: str) -> dict[str, str]:
    """Return file name -> hex sha256 from sha256sum(1) output (text and binary form), without folders."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = re.fullmatch(r"\\?([0-9a-fA-F]{64}) [ *](.+)", line.strip())
        if match:
            found[match[2].rpartition("/")[2]] = match[1].lower()
    return found


def wanted(names: Collection[str]) -> list[str]:
    """Return the files that nqr takes of a list: programs, then images, then kernels."""
    return [*(asset for asset in ASSETS.values() if asset in names), *boot_files(names)]


def boot_files(names: Iterable[str]) -> tuple[str, ...]:
    """Return the images, then the kernels, among the files of a release."""
    known = sorted(name for name in names if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", name))
    images = [name for name in known if name.endswith(".ext4")]
    return (*images, *(name for name in known if name.startswith("vmlinux") and name not in images))


def describe(base_url: str, *, tag: str, checksums: str, manifest: str | None, sizes: dict[str, int]) -> Release:
    """Turn upstream's assets below `base_url` into a Release. `sizes`: bytes by asset name, from the release's listing or a HEAD
    request. Raises ReleaseError NQR-REL-025 if an asset that every host needs has no checksum."""
    digests = parse_checksums(checksums)
    version = tag.removeprefix("v")
    if manifest:
        try:
            stated = json.loads(manifest).get("version")
        except (ValueError, AttributeError):
            stated = None
        if isinstance(stated, str) and re.fullmatch(r"v?[0-9A-Za-z][0-9A-Za-z.+~-]*", stated):
            version = stated.removeprefix("v")
    missing = [name for name in ("manager", "agent", "guest-agent") if ASSETS[name] not in digests]
    if missing:
        raise ReleaseError(
            "NQR-REL-025",
            f"The release {tag} lists no checksum for {', '.join(ASSETS[name] for name in missing)}.",
            "Choose a release whose checksums.txt is complete.",
        )
    artifacts = tuple(
        Artifact(name=name, size=sizes[name], sha256=digests[name], url=f"{base_url}/{name}")
        for name in wanted(digests)
        if name in sizes
    )
    present = {artifact.name for artifact in artifacts}
    images = tuple(
        ImageSource(name=name.removesuffix(".ext4"), artifact=name)
        for name in wanted(digests)
        if name.endswith(".ext4") and name in present
    )
    return release(version, present, artifacts, images)


def release(
    version: str, present: Collection[str], artifacts: tuple[Artifact, ...] = (), images: tuple[ImageSource, ...] = ()
) -> Release:
    """Return a release with the programs whose assets are `present`. Without artifacts, it is still to be built."""
    return Release(
        form="upstream",
        version=version,
        components=tuple(
            Component.model_validate({"name": name, "artifact": asset, **_RUNS[name]})
            for name, asset in ASSETS.items()
            if asset in present
        ),
        artifacts=artifacts,
        privileges=PRIVILEGES,
        images=images,
        database_extensions=("pgcrypto",),
        database_role_attributes=("CREATEROLE",),
    )
