"""The folder of a server that publishes Rust, as rustup expects it: a channel's manifest, and components whose programs are small
scripts. rustup's own program comes from this machine."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

HOST = "x86_64-unknown-linux-gnu"
MUSL = "x86_64-unknown-linux-musl"
_RUSTC = """\
#!/bin/sh
case $* in
    '--print sysroot') dirname -- "$(dirname -- "$(readlink -f -- "$0")")" ;;
    *) echo 'rustc {version} (0123456789 2026-01-02)' ;;
esac
"""
_CARGO = "#!/bin/sh\necho 'cargo {version} (0123456789 2026-01-02)'\n"


def publish(folder: Path, address: str, version: str, rustup: Path, rustup_version: str) -> str:
    """Fill the folder that `address` serves. Return the sha256 of rustup's program."""
    place = folder / "rustup/archive" / rustup_version / HOST
    place.mkdir(parents=True)
    program = rustup.read_bytes()
    (place / "rustup-init").write_bytes(program)
    dist = folder / "dist"
    dist.mkdir()
    components = {
        ("rustc", HOST): {"bin/rustc": _RUSTC.format(version=version)},
        ("cargo", HOST): {"bin/cargo": _CARGO.format(version=version)},
        ("rust-std", HOST): {f"lib/rustlib/{HOST}/lib/libstd.rlib": ""},
        ("rust-std", MUSL): {f"lib/rustlib/{MUSL}/lib/libstd.rlib": ""},
    }
    lines = ['manifest-version = "2"', 'date = "2026-01-02"', "[profiles]", 'minimal = ["rustc", "cargo", "rust-std"]']
    for name in dict.fromkeys(name for name, _ in components):
        lines += [f"[pkg.{name}]", f'version = "{version}"']
        for (package, target), files in components.items():
            if package == name:
                content = _component(f"{name}-{version}-{target}", f"{name}-{target}" if name == "rust-std" else name, files)
                (dist / f"{name}-{target}.tar.gz").write_bytes(content)
                lines += [
                    f"[pkg.{name}.target.{target}]",
                    "available = true",
                    f'url = "{address}/dist/{name}-{target}.tar.gz"',
                    f'hash = "{hashlib.sha256(content).hexdigest()}"',
                ]
    lines += ["[pkg.rust]", f'version = "{version}"', f"[pkg.rust.target.{HOST}]", "available = true"]
    for name, target in components:
        kind = "extensions" if target == MUSL else "components"
        lines += [f"[[pkg.rust.target.{HOST}.{kind}]]", f'pkg = "{name}"', f'target = "{target}"']
    manifest = "\n".join(lines).encode() + b"\n"
    (dist / f"channel-rust-{version}.toml").write_bytes(manifest)
    (dist / f"channel-rust-{version}.toml.sha256").write_text(
        f"{hashlib.sha256(manifest).hexdigest()}  channel-rust-{version}.toml\n"
    )
    return hashlib.sha256(program).hexdigest()


def _component(folder: str, name: str, files: dict[str, str]) -> bytes:
    """A component in the form of rust-installer, version 3."""
    inside = {
        "rust-installer-version": "3\n",
        "components": f"{name}\n",
        f"{name}/manifest.in": "".join(f"file:{path}\n" for path in files),
    }
    inside |= {f"{name}/{path}": text for path, text in files.items()}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path, text in inside.items():
            entry = tarfile.TarInfo(f"{folder}/{path}")
            entry.size, entry.mode = len(text.encode()), 0o755 if "/bin/" in path else 0o644
            archive.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()
