"""Archives that want out of their folder, or too much of the disk."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.release.unpack import unpack

Entry = tuple[str, bytes, str, bytes]  # name, type, target of a link, content
FILE, LINK, FOLDER = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE


def archive(path: Path, *entries: Entry, mode: int = 0o6777) -> str:
    with tarfile.open(path, "w:gz") as tar:
        for name, type_, target, content in entries:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size, info.mode, info.uid = type_, target, len(content), mode, 1000
            tar.addfile(info, io.BytesIO(content))
    return str(path)


def file(name: str, content: bytes = b"x") -> Entry:
    return (name, FILE, "", content)


def link(name: str, target: str) -> Entry:
    return (name, LINK, target, b"")


HOSTILE: dict[str, tuple[Entry, ...]] = {
    "a name that goes up": (file("a/../../out"),),
    "an absolute name": (file("/etc/out"),),
    "a link that goes up": (link("a", "../out"),),
    "an absolute link": (link("a", "/etc"),),
    "a link whose target goes up after a name": (link("a", "b/../../out"),),
    "a file below a link": (link("a", "b"), file("a/out")),
    "a link below a link": (link("a", "."), link("a/b", "x")),
    "a folder in place of a link": (link("a", "b"), ("a", FOLDER, "", b"")),
    "a file over a link": (link("a", "b"), file("a")),
    "a file twice": (file("a"), file("a")),
    "a file below a file": (file("a"), file("a/b")),
    "a link in place of a folder": (file("a/b"), link("a", "c")),
    "a hard link": (file("a"), ("b", tarfile.LNKTYPE, "a", b"")),
    "a device": (("a", tarfile.CHRTYPE, "", b""),),
    "a pipe": (("a", tarfile.FIFOTYPE, "", b""),),
    "a file without a name": (file("./"),),
}


@pytest.mark.parametrize("entries", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_archive_is_refused_and_writes_nothing_outside(entries: tuple[Entry, ...], tmp_path: Path) -> None:
    made = archive(tmp_path / "a.tgz", file("first"), *entries)
    with pytest.raises(ReleaseError) as refused:
        unpack(made, str(tmp_path / "here"))
    assert refused.value.code == "NQR-REL-070"
    assert sorted(os.listdir(tmp_path)) == ["a.tgz", "here"]


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    return data[:40] + bytes([data[40] ^ 0xFF]) + data[41:]


@pytest.mark.parametrize("damage", [cut, flipped, lambda data: b"<!doctype html>"], ids=["cut", "flipped", "html"])
def test_a_damaged_archive_is_refused(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    made = archive(tmp_path / "a.tgz", file("a", os.urandom(100_000)))
    (tmp_path / "b.tgz").write_bytes(damage(Path(made).read_bytes()))
    with pytest.raises(ReleaseError) as refused:
        unpack(str(tmp_path / "b.tgz"), str(tmp_path / "here"))
    assert refused.value.code == "NQR-REL-070"


def test_a_bomb_is_refused_before_it_is_written(tmp_path: Path) -> None:
    made = archive(tmp_path / "a.tgz", file("small"), file("large", b"\0" * 2_000_000))
    assert len(gzip.decompress(Path(made).read_bytes())) > 2_000_000 and os.path.getsize(made) < 10_000
    with pytest.raises(ReleaseError) as refused:
        unpack(made, str(tmp_path / "here"), largest=1_000_000)
    assert refused.value.code == "NQR-REL-070" and "1000000 bytes" in refused.value.what
    assert os.listdir(tmp_path / "here") == ["small"]


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    made = archive(tmp_path / "a.tgz", *(file(str(number), b"") for number in range(20)))
    with pytest.raises(ReleaseError, match="more than 10 files"):
        unpack(made, str(tmp_path / "here"), members=10)


def test_files_links_and_folders_arrive_without_owner_and_without_special_modes(tmp_path: Path) -> None:
    entries = (
        file("./server.js"),
        link("node_modules/a", ".pnpm/a@1/node_modules/a"),
        file("node_modules/.pnpm/a@1/node_modules/a/i.js", b"y"),
    )
    unpack(archive(tmp_path / "a.tgz", *entries), str(tmp_path / "here"))
    here = tmp_path / "here"
    assert (here / "node_modules/a/i.js").read_bytes() == b"y"
    found = (here / "server.js").stat()
    assert (found.st_mode & 0o7777, found.st_uid) == (0o755, os.getuid())
    unpack(archive(tmp_path / "b.tgz", file("data"), mode=0o666), str(tmp_path / "plain"))
    assert (tmp_path / "plain/data").stat().st_mode & 0o7777 == 0o644


def pax(**headers: str) -> bytes:
    info = tarfile.TarInfo("a")
    info.pax_headers = {name.replace("_", "."): value for name, value in headers.items()}
    return info.tobuf(tarfile.PAX_FORMAT)


def header(type_: bytes, size: int, content: bytes = b"") -> bytes:
    info = tarfile.TarInfo("a")
    info.type, info.size = type_, size
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


GLOBAL = header(tarfile.XGLTYPE, 11, b"11 key=val\n")
HEADERS = {
    "a name without end": (header(tarfile.GNUTYPE_LONGNAME, 1 << 32), "too long"),
    "a link without end": (header(tarfile.GNUTYPE_LONGLINK, 1 << 32), "too long"),
    "records without end": (header(tarfile.XHDTYPE, 1 << 32), "too long"),
    "global records without end": (header(tarfile.XGLTYPE, 1 << 32), "too long"),
    "global headers without end": (GLOBAL * 3 + header(FILE, 0), "two global headers"),
    "headers of headers": (header(tarfile.XHDTYPE, 11, b"11 key=val\n") * 3000, "too many headers"),
    "a file with holes": (header(tarfile.GNUTYPE_SPARSE, 0), "holes"),
    "a file with holes in its records": (pax(GNU_sparse_major="1", GNU_sparse_minor="0"), "holes"),
    "a size below zero": (header(FILE, -(1 << 20)), "negative size"),
    "a size below zero in a record": (pax(size="-1000000"), ""),
    "a size that is none": (header(tarfile.GNUTYPE_LONGNAME, -(1 << 20)), "negative size"),
    "folders without end": (header(tarfile.GNUTYPE_LONGNAME, 4001, b"a/" * 2000 + b"\0") + header(FILE, 0), "too long"),
}


@pytest.mark.parametrize(("data", "why"), HEADERS.values(), ids=HEADERS)
def test_headers_do_not_fill_the_memory(data: bytes, why: str, tmp_path: Path) -> None:
    """A bomb: what follows each header is zeros, of which gzip makes little."""
    with gzip.open(tmp_path / "a.tgz", "wb", 1) as out:
        out.write(data)
        out.write(bytes(64 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(ReleaseError) as refused:
            unpack(str(tmp_path / "a.tgz"), str(tmp_path / "here"))
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert refused.value.code == "NQR-REL-070" and why in refused.value.what


def test_names_and_folders_count_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = archive(tmp_path / "a.tgz", file("a/b/c/d"), file("a/b/c/e"))
    with pytest.raises(ReleaseError, match="more than 3 files"):
        unpack(made, str(tmp_path / "here"), members=3)
    monkeypatch.setattr("nqrust.installer.release.unpack.NAMES", 10)
    with pytest.raises(ReleaseError, match="names are too long"):
        unpack(made, str(tmp_path / "there"))


def test_an_archive_of_git_with_its_global_header_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(GLOBAL + header(FILE, 0) + bytes(1024))
    unpack(str(tmp_path / "a.tar"), str(tmp_path / "here"))
    assert os.listdir(tmp_path / "here") == ["a"]
