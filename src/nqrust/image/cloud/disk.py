"""The disk of a cloud image: converted to raw, and its file systems taken out of the partitions.

qemu-img(1) and dd(1) run in the sandbox. nqr checks the files that they wrote before it reads them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from nqrust.host.errors import CommandFailed, CommandTimedOut, ParseError
from nqrust.host.facts import superblock
from nqrust.image.cloud import formats, partitions
from nqrust.image.cloud.filesystems import READERS, Reader, type_of
from nqrust.image.cloud.sandbox import Sandbox
from nqrust.image.errors import ImageError

SOURCE, _RAW, _HEAD = "source", "disk.raw", "head"
LARGEST = 64 << 30
"""Bytes of the largest disk that is imported."""
KEPT_FREE = 1 << 30
"""Bytes of the image folder's disk that an import leaves free."""


@dataclass(frozen=True)
class Found:
    """A file system of the disk. `kind`: a type of READERS. `part`: name of its file in the sandbox."""

    kind: str
    part: str
    size: int
    reader: Reader
    says_root: bool


def raw(sandbox: Sandbox, format: str | None) -> tuple[str, int]:
    """Convert the sandbox's file SOURCE. Return the name of the raw file and its bytes.

    Raises ImageError NQR-IMG-051, -052, -053, -091, HostError.
    """
    head = sandbox.read_start(SOURCE, formats.HEAD)
    other = formats.unsupported(head)
    if other:
        raise _unusable(f"it is {other}", f"Convert or unpack it first. nqr reads {', '.join(formats.FORMATS)}.")
    found = format or formats.detect(head)
    why = formats.outside(found, head)
    if why:
        raise _unusable(why, "Ask its publisher for an image in one file, or convert it with qemu-img.")
    if found == "raw":
        size = _bounded(sandbox.size(SOURCE))
        _require_room(sandbox, int(sandbox.run("du", "--block-size=1", SOURCE).stdout.split()[0]))
        return SOURCE, size
    if sandbox.host.which("qemu-img") is None:
        raise ImageError(
            "NQR-IMG-052",
            "The program qemu-img, which reads disk images, is not installed.",
            "Install qemu-utils (Debian, Ubuntu) or qemu-img (RHEL), then run again.",
        )
    try:
        told = json.loads(sandbox.run("qemu-img", "info", "-f", found, "--output=json", SOURCE, timeout=60).stdout)
        size = _bounded(int(told["virtual-size"]))
        _only_itself(told)
        _require_room(sandbox, 2 * _measured(sandbox, found))
        sandbox.run("qemu-img", "convert", "-f", found, "-O", "raw", SOURCE, _RAW)
        return _RAW, _bounded(max(size, sandbox.size(_RAW)))
    except (CommandFailed, CommandTimedOut, ValueError, KeyError, TypeError, AttributeError, ParseError) as error:
        raise _unusable(f"qemu-img cannot read it as {found}: {error}", "Check --format and the image's checksum.") from error


def _only_itself(told: dict[str, object]) -> None:
    """Refuse an image that qemu-img would read together with others; `formats.outside` already should have."""
    data = dict(dict(told.get("format-specific") or {}).get("data") or {})  # type: ignore[call-overload]
    extents = data.get("extents") or []
    others = [one.get("filename") for one in extents if one.get("filename") != SOURCE]
    if told.get("backing-filename") or data.get("data-file") or others or told.get("encrypted"):
        raise _unusable("it is in more than one file, or encrypted", "Convert it with qemu-img first.")


def _measured(sandbox: Sandbox, format: str) -> int:
    """Return the bytes of an image's data: a few MiB of qcow2 may hold any number of them."""
    told = json.loads(sandbox.run("qemu-img", "measure", "-f", format, "-O", "raw", "--output=json", SOURCE).stdout)
    return int(told["required"])


def _require_room(sandbox: Sandbox, needed: int) -> None:
    """Refuse an image whose data does not fit: it is on the disk once more as its file systems, and once as the converted disk."""
    free = sandbox.host.disk_usage(sandbox.folder).available
    if free - needed < KEPT_FREE:
        raise no_room(
            f"the disk image needs {needed >> 20} MiB while it is imported, and the image folder's disk has {free >> 20} MiB free"
        )


def no_room(why: str) -> ImageError:
    return ImageError(
        "NQR-IMG-091", f"The image does not fit: {why}.", f"Free space there. {KEPT_FREE >> 20} MiB must stay free."
    )


def _bounded(size: int) -> int:
    if not 0 < size <= LARGEST:
        raise ImageError(
            "NQR-IMG-053",
            f"The image's disk has {size} bytes; nqr imports disks of up to {LARGEST >> 30} GiB.",
            "Use an image with a smaller disk: each VM's disk grows to the size you ask for.",
        )
    return size


def file_systems(sandbox: Sandbox, disk: str, size: int) -> tuple[list[Found], list[str]]:
    """Return the file systems that can be read, and the names of the others, in the order of the disk.

    A disk without a partition table is one file system. Raises HostError.
    """
    found, others = [], []
    table = partitions.parse(sandbox.read_start(disk, partitions.HEAD), size)
    kind = type_of(sandbox.read_start(disk, superblock.HEAD))
    if kind:  # a boot sector before a file system looks like a table
        return [Found(kind, disk, size, READERS[kind](sandbox, disk), True)], []
    for one in table:
        _cut(sandbox, disk, _HEAD, one.start, min(one.size, superblock.HEAD))
        head = sandbox.read(_HEAD, superblock.HEAD)
        kind, part = type_of(head), f"part{one.number}"
        if not kind:
            others.append(superblock.parse(head).type or "unknown")
            continue
        _cut(sandbox, disk, part, one.start, one.size)
        found.append(Found(kind, part, one.size, READERS[kind](sandbox, part), one.is_root))
    return found, others


def _cut(sandbox: Sandbox, disk: str, part: str, start: int, size: int) -> None:
    sandbox.run(
        *("dd", f"if={disk}", f"of={part}", "bs=1M", f"skip={start}", f"count={size}"),
        *("iflag=skip_bytes,count_bytes", "conv=sparse", "status=none"),
    )
    sandbox.run("truncate", "-s", str(size), part)  # dd leaves out a hole at the end


def _unusable(why: str, cure: str) -> ImageError:
    return ImageError("NQR-IMG-051", f"The disk image cannot be used: {why}.", cure)
