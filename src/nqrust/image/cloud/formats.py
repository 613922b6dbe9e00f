"""Formats of disk images, read from their first bytes. Pure.

qcow2: docs/interop/qcow2.txt of QEMU; VMDK: "Virtual Disk Format" of VMware. An image is untrusted. One that names another file
is refused here, before qemu-img(1) opens it: that file would be one of this host.
"""

from __future__ import annotations

import re
import struct

HEAD = 0x11000
"""Bytes at the start of an image that `detect` and `outside` need."""
FORMATS = ("qcow2", "raw", "vmdk")
_QCOW2, _VMDK, _DESCRIPTOR = b"QFI\xfb", b"KDMV", b"# Disk DescriptorFile"
_OTHERS = {
    b"vhdxfile": "VHDX",
    b"conectix": "VHD",
    b"<<< ": "VDI",
    b"\xfd7zXZ\0": "xz",
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_EXTERNAL_DATA = 1 << 2  # of the incompatible features of qcow2
_SECTOR = 512
_NO_PARENT = "ffffffff"


def detect(head: bytes) -> str:
    """Return qcow2, vmdk or raw. qemu-img must not guess: a raw disk begins as its owner likes."""
    if head.startswith(_QCOW2):
        return "qcow2"
    return "vmdk" if head.startswith((_VMDK, _DESCRIPTOR)) else "raw"


def unsupported(head: bytes) -> str:
    """Return the name of a known format that is not supported. Empty for any other."""
    return next((name for magic, name in _OTHERS.items() if head.startswith(magic)), "")


def outside(format: str, head: bytes) -> str:
    """Return why an image cannot be used without another file or a key. Empty if it can."""
    if format == "qcow2":
        return _of_qcow2(head)
    return _of_vmdk(head) if format == "vmdk" else ""


def _of_qcow2(head: bytes) -> str:
    if len(head) < 72 or not head.startswith(_QCOW2):
        return "its header is incomplete"
    version, backing = struct.unpack_from(">IQ", head, 4)
    (encryption,) = struct.unpack_from(">I", head, 32)
    if version not in (2, 3):
        return f"qcow2 of version {version} is not known"
    if backing:
        return "it has a backing file"
    if encryption:
        return "it is encrypted"
    if version == 3:
        if len(head) < 104:
            return "its header is incomplete"
        (incompatible,) = struct.unpack_from(">Q", head, 72)
        if incompatible & _EXTERNAL_DATA:
            return "its data is in another file"
    return ""


def _of_vmdk(head: bytes) -> str:
    if head.startswith(_DESCRIPTOR):
        return "its data is in other files"
    if len(head) < _SECTOR or not head.startswith(_VMDK):
        return "its header is incomplete"
    capacity, _, start, sectors = struct.unpack_from("<QQQQ", head, 12)
    if not capacity or start != 1 or (start + sectors) * _SECTOR > len(head):  # QEMU reads the parent's name in sector 1
        return "its descriptor is not at its start"
    text = head[start * _SECTOR : (start + sectors) * _SECTOR].partition(b"\0")[0].decode("utf-8", "replace")
    kind = re.search(r'^createType\s*=\s*"([A-Za-z0-9]+)"', text, re.MULTILINE)
    parent = re.search(r"^parentCID\s*=\s*([0-9a-fA-F]+)", text, re.MULTILINE)
    extents = re.findall(r"^(?:RW|RDONLY|NOACCESS)\s+\d+\s+([A-Z]+)", text, re.MULTILINE)
    if kind is None or kind[1] not in ("monolithicSparse", "streamOptimized"):
        return f"VMDK of type {kind[1] if kind else 'unknown'} is not supported"
    if extents != ["SPARSE"]:
        return "its data is in other files"
    if "parentFileNameHint" in text or (parent and parent[1].lower() != _NO_PARENT):
        return "it has a parent file"
    return ""
