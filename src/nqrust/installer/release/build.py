"""Build of the bundled release's artifacts from a checkout: the wheel, the locks, the guest agent, the descriptor."""

from __future__ import annotations

import json
import posixpath

from nqrust.host.errors import CommandFailed
from nqrust.host.port import Host, command
from nqrust.image.errors import ImageError
from nqrust.image.guest_agent import build_guest_agent
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.engine.progress import Progress
from nqrust.installer.release.bundled import (
    DESCRIPTOR,
    GUEST_AGENT,
    HELPER,
    LOCKS,
    OWN_WHEEL,
    describe_checkout,
)
from nqrust.installer.release.descriptor import Artifact, Release

_EPOCH = "1704067200"  # a fixed time in the wheel's file entries, so that the same sources give the same bytes


def build(host: Host, *, checkout: str, directory: str, runner: str, progress: Progress) -> Release:
    """Build into a folder beside `directory`, then rename it, so that a half-built release never appears there.

    `runner`: a Python that has hatchling. Raises ReleaseError, HostError.
    """
    described = describe_checkout(host, checkout)
    work = f"{directory}.building"
    host.remove_tree(work)
    host.mkdir(work, mode=0o755)
    host.mkdir(f"{work}/wheels", mode=0o755)
    host.mkdir(f"{work}/requirements", mode=0o755)
    progress("building the wheel", 0.1)
    wheel = build_wheel(host, checkout=checkout, into=f"{work}/wheels", runner=runner)
    for name in LOCKS:
        host.copy_file(f"{checkout}/requirements/{name}.txt", f"{work}/requirements/{name}.txt", mode=0o644)
    version = wheel.split("-")[1]
    pinned = f"nqrust-microvm=={version} --hash=sha256:{host.sha256(f'{work}/wheels/{wheel}')}\n"
    host.write_file(f"{work}/{OWN_WHEEL}", pinned.encode())
    host.mkdir(posixpath.dirname(f"{work}/{HELPER}"), mode=0o755)
    host.copy_file(f"{checkout}/src/nqrust/installer/release/helper/nqrust-helper", f"{work}/{HELPER}", mode=0o755)
    progress("building the guest agent", 0.4)
    try:
        build_guest_agent(host, f"{checkout}/guest-agent", f"{work}/{GUEST_AGENT}", lambda text, _: progress(text, None))
    except ImageError as error:
        raise ReleaseError(error.code, error.what, error.cure) from error
    names = [f"wheels/{wheel}", *(f"requirements/{name}.txt" for name in LOCKS), OWN_WHEEL, GUEST_AGENT, HELPER]
    release = described.model_copy(update={"artifacts": tuple(artifact(host, work, name) for name in sorted(names))})
    host.write_file(f"{work}/{DESCRIPTOR}", render(release))
    host.remove_tree(directory)
    host.rename(work, directory)
    return release


def build_wheel(host: Host, *, checkout: str, into: str, runner: str) -> str:
    """Build the project's wheel with hatchling and return its file name. Writes nothing into the checkout."""
    try:
        host.run(
            command(
                runner,
                "-I",
                "-B",
                "-m",
                "hatchling",
                "build",
                "-t",
                "wheel",
                "-d",
                into,
                cwd=checkout,
                timeout=300,
                env={"SOURCE_DATE_EPOCH": _EPOCH},
            )
        )
    except CommandFailed as error:
        if "No module named" in error.stderr:
            raise ReleaseError(
                "NQR-REL-003",
                "The build tool hatchling is missing.",
                "Run ./scripts/install/install.sh of the source tree instead. It installs the tool.",
            ) from error
        last = (error.stderr.strip() or error.stdout.strip()).splitlines()[-1:]
        raise ReleaseError(
            "NQR-REL-004",
            f"The wheel could not be built: {' '.join(last) or f'exit code {error.code}'}.",
            "Check that the checkout is complete and unchanged (git status), then try again.",
        ) from error
    wheels = [name for name in host.listdir(into) if name.endswith(".whl")]
    if len(wheels) != 1:
        raise ReleaseError(
            "NQR-REL-004",
            f"The build left {len(wheels)} wheels instead of one.",
            "Check that the checkout is complete and unchanged (git status), then try again.",
        )
    return wheels[0]


def artifact(host: Host, directory: str, name: str) -> Artifact:
    """Return the descriptor's entry for a file of a release's folder."""
    path = f"{directory}/{name}"
    found = host.stat(path)
    return Artifact(name=name, size=found.size if found else 0, sha256=host.sha256(path))


def render(release: Release) -> bytes:
    """Return release.json: stable order, readable."""
    data = release.model_dump(mode="json", by_alias=True, exclude_defaults=False)
    return (json.dumps(data, indent=2) + "\n").encode()
