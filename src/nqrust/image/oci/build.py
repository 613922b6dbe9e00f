"""Makes an image that VMs boot from an OCI layout: its file system, and the kernel and initrd of another image of this platform."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timezone

from nqrust.contract.images import MANIFEST, Blob, ImageManifest
from nqrust.contract.text import plain
from nqrust.host.port import Host
from nqrust.image import cpio, folder, resources
from nqrust.image.errors import ImageError
from nqrust.image.oci import ext4, guest, layers, layout
from nqrust.image.progress import Progress

MIN_MEMORY_MIB = 128
_KEPT_FREE = 2**30


@dataclass(frozen=True)
class Base:
    """`folder`: of a `tiny` image with its manifest: kernel, initrd and busybox come from it. `guest_agent`: path."""

    folder: str
    manifest: ImageManifest
    guest_agent: str


def build(
    host: Host,
    *,
    source: str,
    scratch: str,
    target_dir: str,
    name: str,
    origin: str,
    base: Base,
    tell: Progress,
    bounds: layers.Bounds | None = None,
) -> ImageManifest:
    """Build the image in `target_dir` from the layout in the folder `source`. `scratch`: a new folder's path on the same disk.

    Raises ImageError NQR-IMG-032 to NQR-IMG-038, NQR-IMG-007, NQR-IMG-090, HostError, OSError.
    """
    folder.check_guest_agent(host, base.guest_agent)
    contents = layout.read(source)
    process = contents.config.process
    own = _own_files(host, base)

    def fill(place: str) -> ImageManifest:
        host.mkdir(scratch, mode=0o700)
        try:
            os.mkdir(f"{scratch}/contents", 0o700)
            unpacked = layers.unpack(
                source,
                contents,
                f"{scratch}/contents",
                bounds or layers.Bounds(room=room(host, scratch)),
                lambda done: tell("unpacking the layers", done * 0.7),
            )
            numbered = {}
            for number, (path, (mode, content)) in enumerate(own.items()):
                host.write_file(f"{scratch}/contents/{-1 - number}", content, mode=0o600)
                numbered[path] = (mode, content, -1 - number)
            guest.add(unpacked.tree, numbered)
            tell("making the root file system", 0.75)
            ext4.stage(unpacked.tree, f"{scratch}/contents", f"{scratch}/root")
            size = ext4.make(host, unpacked.tree, f"{scratch}/root", f"{place}/{folder.ROOTFS}")
            os.chmod(f"{place}/{folder.ROOTFS}", 0o644)
        finally:
            host.remove_tree(scratch)
        return _finish(host, place, base, name, origin, size, contents, tell)

    tell(f"running {plain(' '.join([*process.entrypoint, *process.command]))[:100] or 'no command'}", 0.0)
    return folder.replace(host, target_dir, fill)


def room(host: Host, place: str) -> int:
    """Return the bytes that the contents of files may take: they are on the disk twice while the file system is made."""
    return max(0, host.disk_usage(place).available - _KEPT_FREE) // 2


def _finish(
    host: Host, place: str, base: Base, name: str, origin: str, size: int, contents: layout.Contents, tell: Progress
) -> ImageManifest:
    given = base.manifest
    assert given.initrd is not None  # _own_files refused others
    for blob in (given.kernel, given.kernel_elf):
        if blob is not None:
            host.copy_file(f"{base.folder}/{blob.file}", f"{place}/{blob.file}", mode=0o644)
    # The kernel unpacks archives one after the other, and a later /init replaces an earlier one.
    init = cpio.archive([cpio.file("init", resources.read("tiny/initrd-init"), 0o755)])
    host.write_file(f"{place}/{folder.INITRD}", host.read_bytes(f"{base.folder}/{given.initrd.file}") + init, mode=0o644)
    tell("checking the image", 0.9)
    manifest = ImageManifest(
        name=name,
        description=f"Container image {origin}",
        rootfs=_blob(host, place, folder.ROOTFS),
        kernel=_blob(host, place, given.kernel.file),
        kernel_elf=_blob(host, place, given.kernel_elf.file) if given.kernel_elf else None,
        initrd=_blob(host, place, folder.INITRD),
        cmdline=f"{given.cmdline} init={guest.INIT}".strip(),
        min_memory_mib=MIN_MEMORY_MIB,
        min_disk_mib=size,
        created_at=datetime.fromtimestamp(int(host.now()), timezone.utc),
        origin=origin,
        digest=contents.digest,
        process=contents.config.process,
    )
    host.write_file(f"{place}/{MANIFEST}", manifest.model_dump_json(indent=2).encode() + b"\n")
    return manifest


def _own_files(host: Host, base: Base) -> dict[str, tuple[int, bytes]]:
    initrd = base.manifest.initrd
    busybox = cpio.content(host.read_bytes(f"{base.folder}/{initrd.file}"), "bin/busybox") if initrd else None
    if busybox is None:
        raise ImageError(
            "NQR-IMG-038",
            f"The image {base.manifest.name} has no initrd of this platform.",
            "Build it again on the manager's host: nqr image build tiny",
        )
    return guest.files(busybox=busybox, guest_agent=host.read_bytes(base.guest_agent))


def _blob(host: Host, place: str, file: str) -> Blob:
    path = f"{place}/{file}"
    stat = host.stat(path)
    assert stat is not None  # just written
    return Blob(file=file, size=stat.size, sha256=host.sha256(path))
