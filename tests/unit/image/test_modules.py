"""Modules are listed in an order in which the kernel can load them."""

from __future__ import annotations

import lzma

import pytest

from nqrust.image import modules


def module(depends: str) -> bytes:
    return b"\x7fELF....license=GPL\0depends=" + depends.encode() + b"\0name=x\0"


KERNEL = {
    "virtio": module(""),
    "virtio_ring": module("virtio"),
    "virtio_net": module("virtio_ring,net-failover"),
    "net_failover": module("failover"),
    "failover": module(""),
    "broken": module("nowhere"),
}


def closure(*wanted: str, builtin: frozenset[str] = frozenset()) -> tuple[list[str], list[str]]:
    order, missing = modules.closure(wanted, {name: name for name in KERNEL}, builtin, KERNEL.__getitem__)
    return [one.name for one in order], missing


def test_dependencies_come_first_and_once() -> None:
    order, missing = closure("virtio_net", "virtio_ring")
    assert missing == []
    assert sorted(order) == ["failover", "net_failover", "virtio", "virtio_net", "virtio_ring"]
    for name in order:
        assert all(order.index(needed) < order.index(name) for needed in modules.depends(KERNEL[name]))


def test_built_in_module_needs_no_file() -> None:
    assert closure("ext4", "failover", builtin=frozenset({"ext4"})) == (["failover"], [])


def test_missing_module_is_reported() -> None:
    assert closure("ext4") == ([], ["ext4"])
    assert closure("broken")[1] == ["broken"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("kernel/drivers/char/hw_random/virtio-rng.ko", "virtio_rng"),
        ("a/b/ext4.ko.xz", "ext4"),
        ("x.ko.zst", "x"),
    ],
)
def test_module_file_names_are_normalised(path: str, name: str) -> None:
    assert modules.module_name(path) == name


def test_builtin_list_and_compression() -> None:
    assert modules.builtin_names("kernel/fs/ext4/ext4.ko\nkernel/lib/crc-t10dif.ko\n\n") == {"ext4", "crc_t10dif"}
    assert modules.unpack("a.ko.xz", lzma.compress(b"elf")) == b"elf"
    assert modules.unpack("a.ko", b"elf") == b"elf"
