"""Builds the programs of a workspace with cargo."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass

from nqrust.host.errors import HostError
from nqrust.host.port import Host, command
from nqrust.image.guest_agent import MUSL_TARGET, TARGET, find_program
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.release.source_tree.cargo_workspace import Workspace
from nqrust.installer.release.source_tree.wanted_rust import WantedRust
from nqrust.installer.release.source_tree.workplace import Workplace, usable

CURE = "Install Rust from rustup.rs or the distribution for all users, then run again."


def installed(host: Host) -> bool:
    """Return whether this host has some Rust, which a package of a newer one would replace."""
    return find_program(host, "rustc") is not None or find_program(host, "cargo") is not None


def toolchain(host: Host, wanted: WantedRust) -> str:
    """Return the folder of this host's Rust toolchain if it serves, else ""."""
    rustc = find_program(host, "rustc")
    if rustc is None:
        return ""
    try:
        # rustup's own rustc works only with the home of its user.
        sysroot = host.run(command(rustc, "--print", "sysroot", timeout=60)).stdout.strip()
        said = host.run(command(rustc, "--version", timeout=60)).stdout
    except HostError:
        return ""
    return sysroot if wanted.met_by(said) and (not wanted.musl or has_musl(host, sysroot)) else ""


def has_musl(host: Host, sysroot: str) -> bool:
    return host.exists(f"{sysroot}/lib/rustlib/{MUSL_TARGET}/lib")


@dataclass(frozen=True)
class Cargo:
    """A cargo that runs in a workplace. `programs`: its folder. `sysroot`: of its toolchain. `variables`: for each run."""

    program: str
    programs: str
    sysroot: str
    variables: Mapping[str, str]

    def run(self, place: Workplace, *words: str, **more: str) -> str:
        return place.run(self.program, *words, env={**self.variables, **more}, path=(self.programs,))


def cargo_of(place: Workplace, sysroot: str) -> Cargo:
    """Return the cargo of a toolchain. Raises ReleaseError NQR-REL-093."""
    programs = f"{sysroot}/bin"
    if sysroot.startswith(("/root/", "/home/")):
        programs = f"{place.show('toolchain', sysroot)}/bin"
    cargo = f"{programs}/cargo"
    if not usable(place, cargo, "--version"):
        cargo = find_program(place.host, "cargo") or cargo
        if not usable(place, cargo, "--version"):
            raise ReleaseError("NQR-REL-093", "cargo does not run for a user without privileges.", CURE)
    variables = {
        "CARGO_HOME": f"{place.folder}/home/cargo",
        "CARGO_TARGET_DIR": f"{place.folder}/home/target",
        "CARGO_TERM_COLOR": "never",
        "CARGO_TERM_PROGRESS_WHEN": "never",
        "RUSTC": f"{posixpath.dirname(cargo)}/rustc",
    }
    return Cargo(cargo, programs, sysroot, variables)


def build(place: Workplace, workspace: Workspace, cargo: Cargo, database: str) -> dict[str, str]:
    """Build the programs in release mode. Return component -> path. The guest agent is static: for musl where the toolchain has
    that target, otherwise for gnu. `database`: address of one that sqlx asks, or "". Raises ReleaseError."""
    sqlx = {"SQLX_OFFLINE": "true"} if workspace.sqlx_offline else {"DATABASE_URL": database} if database else {}
    release = ("build", "--release", "--locked")
    built = cargo.variables["CARGO_TARGET_DIR"]
    target = MUSL_TARGET if has_musl(place.host, cargo.sysroot) else TARGET
    # Named always, because a configuration of the tree may name another one.
    own = MUSL_TARGET if workspace.rust.musl_programs else TARGET
    place.progress("building manager and agent", 0.1)
    cargo.run(place, *release, "-p", "manager", "-p", "agent", "--target", own, **sqlx)
    place.progress("building the guest agent", 0.5)
    static = {"CARGO_ENCODED_RUSTFLAGS": "-Ctarget-feature=+crt-static"}
    cargo.run(place, *release, "-p", "guest-agent", "--target", target, **sqlx, **static)
    return {
        "manager": f"{built}/{own}/release/manager",
        "agent": f"{built}/{own}/release/agent",
        "guest-agent": f"{built}/{target}/release/guest-agent",
    }
