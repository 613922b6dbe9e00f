"""A Rust toolchain from its publisher, for a tree that asks for one that neither the host nor its distribution has.

nqr runs rustup's own installer in the scratch folder of a build, without privileges. So the toolchain goes with that folder, and
an uninstall has nothing to remove. See "Installing rustup" and "Environment variables" in the rustup book.
"""

from __future__ import annotations

from nqrust.image.guest_agent import MUSL_TARGET, TARGET
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.release import download
from nqrust.installer.release.source_tree.wanted_rust import WantedRust
from nqrust.installer.release.source_tree.workplace import Workplace

VERSION = "1.28.2"
DIGEST = "20a06e644b0d9bd2fbdbfd52d42540bdde820ea7df86e92e533c073da0cdd43c"
"""sha256 of its rustup-init for x86_64, as in the pin files of several independent projects, those of Rust's container images too."""
INSTALLERS = "RUSTUP_UPDATE_ROOT"
TOOLCHAINS = "RUSTUP_DIST_SERVER"
_PUBLISHER = "https://static.rust-lang.org/rustup"


def install(place: Workplace, wanted: WantedRust) -> str:
    """Bring the toolchain, with the musl target, and return its folder. Raises ReleaseError NQR-REL-099."""
    environment = place.host.environment()
    base = (environment.get(INSTALLERS) or _PUBLISHER).rstrip("/")
    asked = download.Wanted(f"{base}/archive/{VERSION}/{TARGET}/rustup-init", DIGEST)
    place.progress("downloading rustup", 0.02)
    program, home = f"{place.folder}/rustup-init", f"{place.folder}/home"
    variables = {
        "CARGO_HOME": f"{home}/cargo",
        "RUSTUP_HOME": f"{home}/rustup",
        "RUSTUP_INIT_SKIP_PATH_CHECK": "yes",  # a Rust of the host stays, and is not used
        **({TOOLCHAINS: environment[TOOLCHAINS]} if environment.get(TOOLCHAINS) else {}),
    }
    options = ("-y", "--no-modify-path", "--profile", "minimal", "--target", MUSL_TARGET, "--default-toolchain")
    try:
        fetched = download.fetch(asked, f"{place.folder}/download", place.progress)
        place.host.copy_file(fetched, program, mode=0o755)
        place.progress(f"bringing Rust {wanted.channel or 'stable'}", 0.04)
        place.run(program, *options, wanted.channel or "stable", cwd=home, env=variables)
        return place.run(f"{home}/cargo/bin/rustc", "--print", "sysroot", cwd=home, env=variables).strip()
    except ReleaseError as error:
        raise ReleaseError(
            "NQR-REL-099",
            f"The tree asks for {wanted.label}, and rustup could not install it: {error.what.rstrip('.')}.",
            f"Install it from the distribution, or name mirrors in {INSTALLERS} and {TOOLCHAINS}, then run again.",
        ) from error
