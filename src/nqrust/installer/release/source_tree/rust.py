"""Builds the programs of a workspace with cargo."""

from __future__ import annotations

import posixpath
import re

from nqrust.host.errors import HostError
from nqrust.host.port import Host, command
from nqrust.image.guest_agent import MUSL_TARGET, TARGET, find_program
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.release.source_tree.cargo_workspace import Workspace
from nqrust.installer.release.source_tree.workplace import Workplace, usable

OLDEST = (1, 70)
CURE = "Install Rust 1.70 or later from rustup.rs or the distribution, then run again."


def found(host: Host) -> bool:
    """Return whether this host has a Rust toolchain that builds a tree. Raises ReleaseError NQR-REL-093 for one that is too old,
    because a package of a newer one would replace it."""
    if find_program(host, "rustc") is None and find_program(host, "cargo") is None:
        return False
    toolchain(host)
    return True


def toolchain(host: Host) -> str:
    """Return the folder of the Rust toolchain. Raises ReleaseError NQR-REL-093 for none, or one before OLDEST."""
    rustc = find_program(host, "rustc")
    if rustc is None:
        raise ReleaseError("NQR-REL-093", "This host has no Rust compiler.", CURE)
    try:
        # rustup's own rustc works only with the home of its user.
        sysroot = host.run(command(rustc, "--print", "sysroot", timeout=60)).stdout.strip()
        said = host.run(command(rustc, "--version", timeout=60)).stdout
    except HostError as error:
        raise ReleaseError("NQR-REL-093", f"The Rust compiler {rustc} does not run: {error}.", CURE) from error
    found = re.match(r"rustc (\d+)\.(\d+)", said)
    if found is None or (int(found[1]), int(found[2])) < OLDEST:
        raise ReleaseError("NQR-REL-093", f"The Rust compiler of this host is too old: {said.strip()}.", CURE)
    return sysroot


def build(place: Workplace, workspace: Workspace, sysroot: str) -> dict[str, str]:
    """Build the programs in release mode. Return component -> path. The guest agent is static: for musl where the toolchain has
    that target, otherwise for gnu. Raises ReleaseError."""
    programs = f"{sysroot}/bin"
    if sysroot.startswith(("/root/", "/home/")):
        programs = f"{place.show('toolchain', sysroot)}/bin"
    cargo = f"{programs}/cargo"
    if not usable(place, cargo, "--version"):
        cargo = find_program(place.host, "cargo") or cargo
        if not usable(place, cargo, "--version"):
            raise ReleaseError("NQR-REL-093", "cargo does not run for a user without privileges.", CURE)
    target = MUSL_TARGET if place.host.exists(f"{sysroot}/lib/rustlib/{MUSL_TARGET}/lib") else TARGET
    variables = {
        "CARGO_HOME": f"{place.folder}/home/cargo",
        "CARGO_TARGET_DIR": f"{place.folder}/home/target",
        "CARGO_TERM_COLOR": "never",
        "CARGO_TERM_PROGRESS_WHEN": "never",
        "RUSTC": f"{posixpath.dirname(cargo)}/rustc",
        **({"SQLX_OFFLINE": "true"} if workspace.sqlx_offline else {}),
    }
    release = (cargo, "build", "--release", "--locked")
    place.progress("building manager and agent", 0.1)
    place.run(*release, "-p", "manager", "-p", "agent", env=variables, path=(programs,))
    place.progress("building the guest agent", 0.5)
    static = {"CARGO_ENCODED_RUSTFLAGS": "-Ctarget-feature=+crt-static"}
    place.run(*release, "-p", "guest-agent", "--target", target, env={**variables, **static}, path=(programs,))
    built = variables["CARGO_TARGET_DIR"]
    return {
        "manager": f"{built}/release/manager",
        "agent": f"{built}/release/agent",
        "guest-agent": f"{built}/{target}/release/guest-agent",
    }
