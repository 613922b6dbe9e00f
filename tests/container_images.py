"""Container images for tests: OCI layouts written by hand, so that a test decides every byte."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
BUSYBOX = "/bin/busybox"
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda content: content,
    "gzip": lambda content: gzip.compress(content, 1, mtime=0),
    "zstd": lambda content: zstandard.ZstdCompressor(level=1).compress(content),
}


@dataclass
class Member:
    """One entry of a layer."""

    name: str
    data: bytes = b""
    type: bytes = tarfile.REGTYPE
    mode: int = 0o755
    link: str = ""
    uid: int = 0
    gid: int = 0
    size: int | None = None
    pax: dict[str, str] = field(default_factory=dict)


def folder(name: str, mode: int = 0o755, **more: Any) -> Member:
    return Member(name, type=tarfile.DIRTYPE, mode=mode, **more)


def link(name: str, target: str) -> Member:
    return Member(name, type=tarfile.SYMTYPE, link=target, mode=0o777)


def hard(name: str, target: str) -> Member:
    return Member(name, type=tarfile.LNKTYPE, link=target)


def layer(members: Iterable[Member]) -> bytes:
    """Return a tar with these members, in this order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member in members:
            info = tarfile.TarInfo(member.name)
            info.type, info.mode, info.linkname, info.uid, info.gid = (
                member.type,
                member.mode,
                member.link,
                member.uid,
                member.gid,
            )
            info.size = len(member.data) if member.size is None else member.size
            info.mtime = 1_600_000_000
            info.pax_headers = member.pax
            tar.addfile(info, io.BytesIO(member.data))
    return out.getvalue()


@dataclass
class Image:
    """What an image is made of. `packing`: of its layers, a key of PACKERS. `change`: changes its documents (config, manifest) before they are written."""

    layers: list[bytes]
    config: dict[str, Any] = field(default_factory=dict)
    packing: str = "gzip"
    architecture: str = "amd64"
    diff_ids: list[str] | None = None
    change: Callable[[dict[str, Any], dict[str, Any]], None] | None = None

    def write(self, place: Path) -> str:
        """Write the layout into the folder `place`. Return the digest of the manifest."""
        shutil.rmtree(place, ignore_errors=True)
        (place / "blobs" / "sha256").mkdir(parents=True)
        (place / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        diff_ids = [f"sha256:{hashlib.sha256(one).hexdigest()}" for one in self.layers]
        config = {
            "architecture": self.architecture,
            "os": "linux",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": self.diff_ids or diff_ids},
        }
        kind = f"{LAYER}+{self.packing}" if self.packing else LAYER
        stored = [PACKERS[self.packing](one) for one in self.layers]
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": blob(place, CONFIG, json.dumps(config).encode()),
            "layers": [blob(place, kind, one) for one in stored],
        }
        if self.change is not None:
            self.change(config, manifest)
            manifest["config"] = blob(place, CONFIG, json.dumps(config).encode())
        top = blob(place, MANIFEST, json.dumps(manifest).encode())
        top["annotations"] = {"org.opencontainers.image.ref.name": "image"}
        (place / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
        return str(top["digest"])


def blob(place: Path, kind: str, content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    (place / "blobs" / "sha256" / digest).write_bytes(content)
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}


def busybox(*applets: str) -> bytes:
    """Return a layer with busybox and some of its programs, as an image's base."""
    program = Path(BUSYBOX).read_bytes()
    return layer(
        [
            folder("bin"),
            folder("etc"),
            folder("tmp", 0o1777),
            Member("bin/busybox", program),
            *[link(f"bin/{name}", "busybox") for name in ("sh", *applets)],
            Member("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nweb:x:101:102:web:/srv:/bin/sh\n", mode=0o644),
            Member("etc/group", b"root:x:0:\nweb:x:102:\nlogs:x:103:web\n", mode=0o644),
        ]
    )
