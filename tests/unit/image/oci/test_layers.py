"""Layouts and layers as bytes: what is good is unpacked as it is, what is hostile is refused or harmless."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from tests.container_images import PACKERS, Image, Member, blob, folder, hard, layer, link

from nqrust.host.local import LocalHost
from nqrust.image.errors import ImageError
from nqrust.image.oci import build, ext4, layers, layout
from nqrust.image.oci.tree import Is, Node, Tree


def unpacked(place: Path, image: Image, bounds: layers.Bounds | None = None) -> layers.Unpacked:
    image.write(place / "layout")
    (place / "contents").mkdir()
    contents = layout.read(str(place / "layout"))
    return layers.unpack(str(place / "layout"), contents, str(place / "contents"), bounds or layers.Bounds(), lambda done: None)


def refused(place: Path, image: Image, bounds: layers.Bounds | None = None) -> str:
    with pytest.raises(ImageError) as error:
        unpacked(place, image, bounds)
    assert error.value.what.endswith(".") and error.value.cure.endswith(".")
    return error.value.code


@pytest.mark.parametrize("packing", PACKERS)
def test_files_links_owners_and_modes_come_out(tmp_path: Path, packing: str) -> None:
    members = [
        folder("srv", 0o750, uid=7),
        Member("srv/a", b"text", mode=0o4711, uid=5, gid=6),
        link("b", "srv/a"),
        hard("c", "srv/a"),
    ]
    tree = unpacked(tmp_path, Image([layer(members)], packing=packing)).tree
    a = tree.find("srv/a")
    assert a is not None and (a.kind, a.mode, a.uid, a.gid, a.size) == (Is.file, 0o4711, 5, 6, 4)
    assert tree.find("c") is a and (tmp_path / "contents" / str(a.content)).read_bytes() == b"text"
    assert (tmp_path / "contents" / str(a.content)).stat().st_mode & 0o7777 == 0o600, "no set-user-id on the host"


def test_the_staged_folder_has_no_set_id_and_its_corrections_have(tmp_path: Path) -> None:
    members = [
        Member("a", b"text", mode=0o6755, uid=5, gid=6),
        Member('q"u o', b"", mode=0),
        hard("b", "a"),
        link("l", "/etc/passwd"),
    ]
    tree = unpacked(tmp_path, Image([layer(members)])).tree
    ext4.stage(tree, str(tmp_path / "contents"), str(tmp_path / "root"))
    found = {name: os.lstat(tmp_path / "root" / name) for name in os.listdir(tmp_path / "root")}
    assert oct(found["a"].st_mode) == "0o100755" and found["a"].st_ino == found["b"].st_ino
    assert os.readlink(tmp_path / "root" / "l") == "/etc/passwd"
    assert list(ext4.corrections(tree, 900, 900)) == [
        'sif "/" uid 0', 'sif "/" gid 0',
        'sif "/a" uid 5', 'sif "/a" gid 6', 'sif "/a" mode 0106755',
        'sif "/l" uid 0', 'sif "/l" gid 0',
        'sif "/q""u o" uid 0', 'sif "/q""u o" gid 0', 'sif "/q""u o" mode 0100000',
    ]  # fmt: skip
    assert list(ext4.corrections(tree, 0, 0))[2:] == [
        'sif "/a" uid 5', 'sif "/a" gid 6', 'sif "/a" mode 0106755', 'sif "/q""u o" mode 0100000',
    ]  # fmt: skip


def test_device_nodes_and_pipes_are_left_out(tmp_path: Path) -> None:
    kinds = (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
    result = unpacked(tmp_path, Image([layer([Member(f"d{n}", type=kind) for n, kind in enumerate(kinds)])]))
    assert result.left_out == 3 and list(result.tree.root.children) == []


def test_a_link_out_of_the_image_stays_a_link(tmp_path: Path) -> None:
    """A later file below it lands inside the image, and nothing on the host."""
    outside = tmp_path / "outside"
    members = [link("out", str(outside)), Member("out/x", b"1"), link("up", "../../../.."), Member("up/y", b"2")]
    tree = unpacked(tmp_path, Image([layer(members)])).tree
    assert not outside.exists() and tree.find(f"{outside}/x") is not None and tree.find("y") is not None
    ext4.stage(tree, str(tmp_path / "contents"), str(tmp_path / "root"))
    assert not outside.exists() and (tmp_path / "root" / "y").read_bytes() == b"2"


@pytest.mark.parametrize(
    "member",
    [
        Member("../x", b"1"),
        Member("a/../../x", b"1"),
        Member("a\nb", b"1"),
        hard("x", "../../etc/passwd"),
        hard("x", "/etc/shadow"),
        link("x", "a\nb"),
        Member("x", b"1", uid=2**40),
        Member("x" * 300, b"1"),
    ],
    ids=["dots", "dots-inside", "newline", "hard-dots", "hard-absolute", "link-newline", "owner", "long"],
)
def test_hostile_members_are_refused(tmp_path: Path, member: Member) -> None:
    assert refused(tmp_path, Image([layer([member])])) == "NQR-IMG-034"


@pytest.mark.parametrize("packing", PACKERS)
def test_a_layer_with_zeros_without_end_is_bounded(tmp_path: Path, packing: str) -> None:
    bomb = layer([Member("zeros", bytes(4 * 2**20))])
    assert refused(tmp_path, Image([bomb], packing=packing), layers.Bounds(unpacked=2**20)) == "NQR-IMG-035"


def test_the_number_of_files_is_bounded(tmp_path: Path) -> None:
    many = layer([Member(f"f{number}") for number in range(100)])
    assert refused(tmp_path, Image([many]), layers.Bounds(entries=50)) == "NQR-IMG-035"


def test_the_holes_of_a_sparse_file_count(tmp_path: Path) -> None:
    out = io.BytesIO()
    info = tarfile.TarInfo("sparse")
    info.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.size": str(2**50), "GNU.sparse.map": "0,1"}
    info.size = 1
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info, io.BytesIO(b"x"))
    assert refused(tmp_path, Image([out.getvalue()])) == "NQR-IMG-035"


def test_a_name_of_megabytes_is_not_read_into_memory(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**33
    assert refused(tmp_path, Image([info.tobuf(tarfile.GNU_FORMAT) + bytes(2**16)])) == "NQR-IMG-034"


@pytest.mark.parametrize("content", [b"not a tar", b"\x1f\x8bnot gzip either", layer([Member("a", bytes(2000))])[:700]])
def test_a_layer_that_is_no_archive_is_damaged(tmp_path: Path, content: bytes) -> None:
    assert refused(tmp_path, Image([content], packing="")) == "NQR-IMG-032"


def _zstd(content: bytes, window_log: int = 20) -> bytes:
    """Return a frame whose header asks the reader for a window of 2 ** `window_log` bytes."""
    shape = zstandard.ZstdCompressionParameters.from_level(1, window_log=window_log)
    packer = zstandard.ZstdCompressor(compression_params=shape).compressobj()
    return packer.compress(content) + packer.flush()


def _packed(content: bytes, stored: bytes) -> Image:
    """Return an image of the layer `content`, whose blob is `stored`."""
    names = [f"sha256:{hashlib.sha256(content).hexdigest()}"]
    return Image([stored], packing="", diff_ids=names)


SKIPPED = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"


def test_all_frames_of_zstd_are_read_and_those_to_skip_are_skipped(tmp_path: Path) -> None:
    """As writers in parallel and zstd:chunked make them."""
    content = layer([Member("a", os.urandom(3 * 2**20)), Member("b", b"end")])
    stored = SKIPPED + b"".join(_zstd(content[at : at + 2**20]) for at in range(0, len(content), 2**20)) + SKIPPED
    tree = unpacked(tmp_path, _packed(content, stored)).tree
    assert [(path, node.size) for path, node in tree.walk()][1:] == [("/a", 3 * 2**20), ("/b", 3)]


def test_zstd_takes_no_more_memory_than_its_program(tmp_path: Path) -> None:
    content = layer([Member("a", b"1")])
    unpacked(tmp_path / "most", _packed(content, _zstd(content, 27)))
    with pytest.raises(ImageError, match="128 MiB of memory") as error:
        unpacked(tmp_path / "more", _packed(content, _zstd(content, 28)))
    assert error.value.code == "NQR-IMG-035"


@pytest.mark.parametrize("spoilt", [lambda blob: blob[:-9], lambda blob: blob[:4] + b"1234", lambda blob: blob + b"more"])
def test_zstd_that_is_cut_or_wrong_is_damaged(tmp_path: Path, spoilt: Callable[[bytes], bytes]) -> None:
    content = layer([Member("a", os.urandom(2**18))])
    assert refused(tmp_path, _packed(content, spoilt(_zstd(content)))) == "NQR-IMG-032"


def test_a_layer_must_unpack_to_the_bytes_that_its_configuration_names(tmp_path: Path) -> None:
    assert refused(tmp_path, Image([layer([Member("a", b"1")])], diff_ids=["sha256:" + "0" * 64])) == "NQR-IMG-032"


def _spoilt(place: Path, what: str) -> None:
    blobs = sorted((place / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    if what == "index":
        (place / "index.json").write_text("{")
    elif what == "missing":
        blobs[0].unlink()
    elif what == "link":
        blobs[0].rename(place / "elsewhere")
        blobs[0].symlink_to(place / "elsewhere")
    elif what == "other bytes":
        blobs[0].write_bytes(bytes(blobs[0].stat().st_size))
    elif what == "longer":
        blobs[0].write_bytes(blobs[0].read_bytes() + b" ")


@pytest.mark.parametrize("what", ["index", "missing", "link", "other bytes", "longer"])
def test_a_blob_counts_only_with_its_size_and_digest(tmp_path: Path, what: str) -> None:
    Image([layer([Member("a", b"1")])], {"Cmd": ["/a"]}).write(tmp_path / "layout")
    _spoilt(tmp_path / "layout", what)
    with pytest.raises(ImageError) as error:
        contents = layout.read(str(tmp_path / "layout"))
        (tmp_path / "contents").mkdir()
        layers.unpack(str(tmp_path / "layout"), contents, str(tmp_path / "contents"), layers.Bounds(), lambda done: None)
    assert error.value.code == "NQR-IMG-032"


def test_another_platform_is_named(tmp_path: Path) -> None:
    assert refused(tmp_path, Image([layer([])], architecture="arm64")) == "NQR-IMG-033"


@pytest.mark.parametrize(
    "config",
    [
        {"Env": ["no equals sign"]},
        {"WorkingDir": "relative"},
        {"User": "a b"},
        {"StopSignal": "; reboot"},
        {"Cmd": ["a\0b"]},
        {"Cmd": "not a list"},
    ],
)
def test_a_configuration_that_no_process_can_have_is_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    assert refused(tmp_path, Image([layer([])], config)) == "NQR-IMG-032"


def test_more_layers_than_an_image_may_have_are_refused(tmp_path: Path) -> None:
    def change(config: dict[str, Any], manifest: dict[str, Any]) -> None:
        manifest["layers"] = manifest["layers"] * 200
        config["rootfs"]["diff_ids"] = []

    assert refused(tmp_path, Image([layer([])], change=change)) == "NQR-IMG-032"


def test_the_image_for_this_platform_is_taken_from_an_index(tmp_path: Path) -> None:
    place = tmp_path / "layout"
    digest = Image([layer([Member("a", b"1")])]).write(place)
    top = json.loads((place / "index.json").read_text())["manifests"][0]
    other = {**top, "platform": {"os": "linux", "architecture": "arm64"}, "digest": "sha256:" + "1" * 64}
    mine = {**top, "platform": {"os": "linux", "architecture": "amd64"}}
    listed = {"schemaVersion": 2, "manifests": [other, mine]}
    index = blob(place, "application/vnd.oci.image.index.v1+json", json.dumps(listed).encode())
    (place / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [index]}))
    assert layout.read(str(place)).digest == digest


def test_the_size_leaves_room_for_everything() -> None:
    tree = Tree()
    empty = ext4.size_mib(tree)
    tree.put("big", Node(Is.file, 1, size=800 * 2**20))
    assert 900 <= ext4.size_mib(tree) - empty <= 920


def test_layers_that_need_more_room_than_the_disk_has_are_refused(tmp_path: Path) -> None:
    """A few bytes of gzip become any number on the disk. Holes take none."""
    filling = layer([Member("a", b"x" * 2**20), Member("b", b"y" * 2**20)])
    assert refused(tmp_path, Image([filling]), layers.Bounds(room=2**20 + 1)) == "NQR-IMG-090"
    unpacked(tmp_path / "holes", Image([layer([Member("a", bytes(2**21))])]), layers.Bounds(room=0))


def test_room_for_contents_is_half_of_what_is_free_above_a_gibibyte(monkeypatch: pytest.MonkeyPatch) -> None:
    host = LocalHost()
    found = dataclasses.replace(host.disk_usage("/"), available=5 * 2**30)
    monkeypatch.setattr(host, "disk_usage", lambda path: found)
    assert build.room(host, "/") == 2 * 2**30


@pytest.mark.parametrize("field", ["Env", "Cmd", "Entrypoint", "ExposedPorts"])
def test_long_configuration_is_refused(tmp_path: Path, field: str) -> None:
    """Every list of images and each request to an agent would carry it."""
    words = [f"A{number}={'x' * 4000}" for number in range(40)]
    config = {field: {word: {} for word in words} if field == "ExposedPorts" else words}
    assert refused(tmp_path, Image([layer([])], config)) == "NQR-IMG-032"
