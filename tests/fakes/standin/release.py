"""A release in upstream's form whose programs run: static binaries, a web UI for Node.js, an image and a kernel."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nqrust.installer.release import upstream

VERSION = "0.4.2"
_HERE = Path(__file__).parent


@cache
def program(role: str, version: str) -> bytes:
    """Compile one of its programs, statically linked."""
    made = Path(os.environ.get("TMPDIR", "/tmp")) / f"standin-{os.getpid()}-{role}-{version}"
    environment = {**os.environ, "ROLE": role, "RELEASE": version}
    argv = ["rustc", "--edition", "2021", "-C", "target-feature=+crt-static", "-C", "strip=symbols", "-o", str(made)]
    subprocess.run([*argv, str(_HERE / "program.rs")], env=environment, check=True)
    try:
        return made.read_bytes()
    finally:
        made.unlink()


def web_ui() -> bytes:
    """The archive of its web UI, with a link as pnpm makes them."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        tar.add(_HERE / "server.js", "./server.js")
        tar.add(_HERE / "page.js", "./node_modules/.pnpm/page@1/node_modules/page/index.js")
        link = tarfile.TarInfo("./node_modules/page")
        link.type, link.linkname = tarfile.SYMTYPE, ".pnpm/page@1/node_modules/page"
        tar.addfile(link)
    return made.getvalue()


def node_archive(path: Path) -> None:
    """An archive as nodejs.org publishes it, with the Node.js of this machine."""
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        tar.add(os.path.realpath("/usr/bin/node"), "node-v20.0.0-linux-x64/bin/node")
        link = tarfile.TarInfo("node-v20.0.0-linux-x64/bin/npm")
        link.type, link.linkname = tarfile.SYMTYPE, "../lib/node_modules/npm/bin/npm-cli.js"
        tar.addfile(link)


def publish(folder: Path, key: Ed25519PrivateKey | None = None, version: str = VERSION) -> None:
    """Write the release's assets into `folder`. With a `key`, the list of checksums has a head and a signature."""
    folder.mkdir(parents=True)
    for role in ("manager", "agent", "guest-agent"):
        (folder / upstream.ASSETS[role]).write_bytes(program(role, version))
    (folder / upstream.ASSETS["ui"]).write_bytes(web_ui())
    (folder / "alpine.ext4").write_bytes(b"\0" * 65536)
    (folder / "vmlinux-6.1.bin").write_bytes(b"\x7fELF" + b"\0" * 4096)
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}" for file in sorted(folder.iterdir())]
    head = [f"# product: nqrust-microvm\n# version: {version}\n# architecture: x86_64"] if key else []
    listed = ("\n".join([*head, *lines]) + "\n").encode()
    (folder / upstream.CHECKSUMS).write_bytes(listed)
    (folder / upstream.MANIFEST).write_text(json.dumps({"version": f"v{version}"}))
    if key is not None:
        (folder / f"{upstream.CHECKSUMS}.sig").write_bytes(key.sign(listed))


def public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
