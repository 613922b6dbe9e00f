"""Builds the guest agent's static binary from its sources with the machine's tools: cargo, or rustc alone."""

from __future__ import annotations

import re

from nqrust.host.errors import CommandFailed, HostError
from nqrust.host.port import Host, command
from nqrust.image.errors import ImageError
from nqrust.image.progress import Progress, silent

TARGET = "x86_64-unknown-linux-gnu"
MUSL_TARGET = "x86_64-unknown-linux-musl"
MAX_SIZE = 2 * 1024 * 1024
_PLACES = ("/root/.cargo/bin", "/usr/local/cargo/bin", "/usr/local/bin")
_CURE = "Install rustc 1.63 or newer (Debian and Ubuntu: apt-get install rustc; RHEL: dnf install rust), then run again."


def find_program(host: Host, name: str) -> str | None:
    """Find a Rust program on PATH or in rustup's folder (which is on a login shell's PATH only)."""
    found = host.which(name)
    if found:
        return found
    return next((path for place in _PLACES if host.exists(path := f"{place}/{name}")), None)


def build_guest_agent(host: Host, source_dir: str, target_path: str, progress: Progress | None = None) -> None:
    """Compile `source_dir` (holds Cargo.toml and src/) offline and write the binary to `target_path`, root 0755.

    Intermediate files go into a folder beside the target and are removed. Raises ImageError NQR-REL-030 if there is no compiler,
    NQR-REL-031 if it fails, NQR-REL-032 if the result is not a working static binary.
    """
    tell = progress or silent
    manifest = f"{source_dir}/Cargo.toml"
    if not host.exists(manifest):
        raise ImageError(
            "NQR-REL-030",
            f"The guest agent's sources are missing in {source_dir}.",
            "Use a complete checkout or a release that carries the built guest agent.",
        )
    cargo, rustc = find_program(host, "cargo"), find_program(host, "rustc")
    if not cargo and not rustc:
        raise ImageError("NQR-REL-030", "This host has no Rust compiler for the guest agent.", _CURE)
    work = f"{target_path}.building"
    host.remove_tree(work)
    host.mkdir(work, mode=0o700)
    try:
        tell("building the guest agent", None)
        built = None
        failure: CommandFailed | None = None
        # Old distributions' cargo rejects the format of the lock file; their rustc alone works.
        if cargo:
            try:
                built = _with_cargo(host, cargo, source_dir, work, tell)
            except CommandFailed as error:
                failure = error
        if built is None and rustc:
            try:
                built = _with_rustc(host, rustc, source_dir, work, tell)
            except CommandFailed as error:
                failure = error
        if built is None:
            reason = _reason(failure)
            raise ImageError("NQR-REL-031", f"The guest agent could not be compiled: {reason}.", _CURE)
        _check(host, built)
        host.copy_file(built, target_path, mode=0o755)
    finally:
        host.remove_tree(work)


def _flags(source_dir: str) -> list[str]:
    # The remapping removes the builder's own paths from the binary, so that the same sources give the same bytes.
    return ["-C", "target-feature=+crt-static", "--remap-path-prefix", f"{source_dir}=guest-agent"]


def _with_cargo(host: Host, cargo: str, source_dir: str, work: str, tell: Progress) -> str:
    target = _target(host)
    host.run(
        command(
            cargo,
            "build",
            "--release",
            "--locked",
            "--offline",
            "--target",
            target,
            "--manifest-path",
            f"{source_dir}/Cargo.toml",
            env={
                "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(_flags(source_dir)),
                "CARGO_TARGET_DIR": f"{work}/cargo",
                "CARGO_HOME": f"{work}/cargo-home",
                "CARGO_TERM_COLOR": "never",
            },
            timeout=600,
            cwd=source_dir,
        ),
        on_line=lambda line: tell(line.strip(), None),
    )
    return f"{work}/cargo/{target}/release/guest-agent"


def _with_rustc(host: Host, rustc: str, source_dir: str, work: str, tell: Progress) -> str:
    found = re.search(r'(?m)^version\s*=\s*"([^"]+)"', host.read_text(f"{source_dir}/Cargo.toml"))
    output = f"{work}/guest-agent"
    host.run(
        command(
            rustc,
            "--edition",
            "2021",
            "--crate-name",
            "guest_agent",
            "--crate-type",
            "bin",
            "-C",
            "opt-level=z",
            "-C",
            "lto",
            "-C",
            "codegen-units=1",
            "-C",
            "panic=abort",
            "-C",
            "strip=symbols",
            *_flags(source_dir),
            "-o",
            output,
            f"{source_dir}/src/main.rs",
            env={"CARGO_PKG_VERSION": found.group(1) if found else "0"},
            timeout=600,
            cwd=source_dir,
        ),
        on_line=lambda line: tell(line.strip(), None),
    )
    return output


def _target(host: Host) -> str:
    """Return musl if its standard library is installed (smaller), otherwise gnu."""
    rustc = find_program(host, "rustc")
    if rustc:
        try:
            sysroot = host.run(command(rustc, "--print", "sysroot", timeout=60)).stdout.strip()
        except HostError:
            return TARGET
        if sysroot and host.exists(f"{sysroot}/lib/rustlib/{MUSL_TARGET}/lib"):
            return MUSL_TARGET
    return TARGET


def _check(host: Host, path: str) -> None:
    stat = host.stat(path)
    broken = "it is missing"
    if stat is not None:
        head = host.read_bytes(path, 1 << 16)
        if not head.startswith(b"\x7fELF"):
            broken = "it is not an ELF file"
        elif b"/ld-linux" in head:
            broken = "it is not static"
        elif stat.size > MAX_SIZE:
            broken = f"it is {stat.size} bytes large, more than {MAX_SIZE}"
        else:
            try:
                said = host.run(command(path, "--version", timeout=10)).stdout
                broken = "" if said.startswith("guest-agent ") else "it does not tell its version"
            except HostError as error:
                broken = f"it does not run ({error})"
    if broken:
        raise ImageError(
            "NQR-REL-032",
            f"The guest agent that was built is not usable: {broken}.",
            "Check the Rust toolchain (rustc --version) and install the C library's static files "
            "(Debian and Ubuntu: libc6-dev; RHEL: glibc-static), then run again.",
        )


def _reason(failure: CommandFailed | None) -> str:
    if failure is None:
        return "no compiler ran"
    lines = [line.strip() for line in failure.stderr.splitlines() if line.strip()]
    error = next((line for line in lines if line.startswith("error")), lines[-1] if lines else f"exit code {failure.code}")
    return error.rstrip(".")
