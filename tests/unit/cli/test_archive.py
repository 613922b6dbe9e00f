"""Copies as a tar stream: what is written is read, and a hostile archive makes nothing outside of its target."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nqrust.cli.__main__ import main
from nqrust.cli.vm import archive, booting, copy
from nqrust.cli.vm.copy import _parsed
from nqrust.cli.vm.logs import added
from nqrust.contract.guest import Kind


def member(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> io.BytesIO:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w|", format=tarfile.GNU_FORMAT) as out:
        for info, content in members:
            out.addfile(info, io.BytesIO(content))
    made.seek(0)
    return made


def read(source: io.BytesIO, folder: Path, skipped: list[str] | None = None) -> None:
    archive.read(source, str(folder), "copy", (skipped if skipped is not None else []).append)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "outside").write_text("safe")
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def test_what_is_written_is_read(place: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "a" / "b").mkdir(parents=True)
    (source / "a" / ("n" * 180)).write_bytes(b"x" * 700_000)
    (source / "run").write_text("#!")
    (source / "run").chmod(0o4755)
    (source / "link").symlink_to("a")
    os.link(source / "run", source / "second")
    os.mkfifo(source / "pipe")
    left_out: list[str] = []
    made = io.BytesIO()
    archive.write(made, str(source), "top", left_out.append)
    made.seek(0)
    read(made, place)
    copy = place / "copy"
    assert left_out == ["top/pipe"]
    assert (copy / "a" / ("n" * 180)).read_bytes() == b"x" * 700_000
    assert os.readlink(copy / "link") == "a" and (copy / "a" / "b").is_dir()
    assert (copy / "second").stat().st_ino == (copy / "run").stat().st_ino
    assert (copy / "run").stat().st_mode & 0o7777 == 0o755, "no privileges come along"


@pytest.mark.parametrize(("umask", "modes"), [(0o077, ("700", "600")), (0o022, ("755", "644")), (0o007, ("770", "660"))])
def test_copies_have_the_modes_that_the_caller_lets_new_files_have(
    umask: int, modes: tuple[str, str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = tar(member("top", tarfile.DIRTYPE, mode=0o777), member("top/key", content=b"secret", mode=0o666)).getvalue()

    @contextmanager
    def opened(sink: Any, woken: Any) -> Iterator[Any]:
        done = {"start": lambda request: (sink(Kind.stdout, sent), sink(Kind.stdout, b"")), "end_input": lambda: None}
        yield SimpleNamespace(**done, wait=lambda: 0, over=True)

    monkeypatch.setattr(copy, "_over_manager", lambda name, url: opened)
    monkeypatch.setattr(booting, "until_ready", lambda *_: None)
    before = os.umask(umask)
    try:
        with pytest.raises(SystemExit) as ended:
            main(["vm", "cp", "web1:/top", str(place)])
    finally:
        os.umask(before)
    assert not ended.value.code
    assert tuple(f"{(place / name).stat().st_mode & 0o777:o}" for name in ("top", "top/key")) == modes


@pytest.mark.parametrize(
    "members",
    [
        [member("../outside", content=b"bad")],
        [member("top/../../outside", content=b"bad")],
        [member("/outside", content=b"bad")],
        [member("top", tarfile.DIRTYPE), member("other", content=b"bad")],
        [member("top", tarfile.SYMTYPE, linkname=".."), member("top/outside", content=b"bad")],
        [
            member("top", tarfile.DIRTYPE),
            member("top/l", tarfile.SYMTYPE, linkname="../.."),
            member("top/l/outside", content=b"bad"),
        ],
        [member("top", tarfile.DIRTYPE), member("top/l", tarfile.LNKTYPE, linkname="../outside")],
        [member("top", tarfile.DIRTYPE), member("top/l", tarfile.LNKTYPE, linkname="/etc/passwd")],
        [member("top/" + "n" * 70_000, content=b"bad")],
        [member("top", tarfile.SYMTYPE, linkname="/root/.ssh/id_ed25519")],
        [member("top", content=b"x"), member("top", tarfile.SYMTYPE, linkname="../outside")],
        [member("top", content=b"x"), member("./top/.", tarfile.SYMTYPE, linkname="../outside")],
        [member("top", content=b"x"), member("top", tarfile.LNKTYPE, linkname="top")],
        [member("top", tarfile.CHRTYPE), member("top", tarfile.SYMTYPE, linkname="../outside")],
    ],
)
def test_a_hostile_archive_is_refused_and_nothing_outside_changes(place: Path, members: Any) -> None:
    with pytest.raises((archive.Hostile, OSError)):
        read(tar(*members), place)
    assert (place.parent / "outside").read_text() == "safe"
    assert sorted(path.name for path in place.parent.iterdir()) == ["in", "outside"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_after_the_file_does_not_take_its_place(place: Path, kind: bytes) -> None:
    with pytest.raises(archive.Hostile, match="it is a link"):
        read(tar(member("top", content=b"report"), member("top", kind, linkname="top")), place)
    assert (place / "copy").read_text() == "report" and not (place / "copy").is_symlink()


def test_a_link_that_is_there_is_replaced_and_not_followed(place: Path) -> None:
    (place / "copy").symlink_to("../outside")
    read(tar(member("top", content=b"new")), place)
    assert (place.parent / "outside").read_text() == "safe" and (place / "copy").read_text() == "new"
    assert not (place / "copy").is_symlink()


def test_devices_are_left_out(place: Path) -> None:
    skipped: list[str] = []
    read(tar(member("top", tarfile.DIRTYPE), member("top/null", tarfile.CHRTYPE, devmajor=1, devminor=3)), place, skipped)
    assert skipped == ["top/null"] and list((place / "copy").iterdir()) == []


def test_half_an_archive_leaves_no_half_file(place: Path) -> None:
    whole = tar(member("top", content=b"x" * 100_000)).getvalue()
    with pytest.raises(tarfile.TarError):
        read(io.BytesIO(whole[:50_000]), place)
    assert list(place.iterdir()) == []
    with pytest.raises(tarfile.TarError):
        read(io.BytesIO(b""), place)


def test_holes_and_endless_names_are_refused(place: Path) -> None:
    holes = tarfile.TarInfo("top")
    holes.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 50)}
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w|", format=tarfile.PAX_FORMAT) as out:
        out.addfile(holes)
    made.seek(0)
    with pytest.raises(archive.Hostile):
        read(made, place)
    endless = tarfile.TarInfo("x")
    endless.type, endless.size = tarfile.XHDTYPE, 1 << 40
    with pytest.raises(archive.Hostile):
        read(io.BytesIO(endless.tobuf(tarfile.GNU_FORMAT) + bytes(20_000)), place)


def test_a_name_with_a_colon_is_a_vm_unless_a_slash_comes_first() -> None:
    assert _parsed("web1:/tmp") == ("web1", "/tmp")
    assert _parsed("web1:") == ("web1", ".")
    assert [_parsed(path) for path in ("/tmp/a:b", "./a:b", "a", ":a")] == [(None, p) for p in ("/tmp/a:b", "./a:b", "a", ":a")]


def test_a_followed_log_shows_each_line_once() -> None:
    assert added("", "boot\n") == "boot\n"
    assert added("boot\n", "boot\n") == ""
    assert added("boot\n", "boot\nlogin: ") == "login: "
    long = "".join(f"line {n}\n" for n in range(2000))
    assert added(long[-9000:], (long + "new\n")[-9000:]) == "new\n"
    assert added("same\n" * 3, "same\n" * 5) == "same\n" * 2
    assert added("of the boot before\n" * 50, "another boot\n" * 50) == "another boot\n" * 50


def _header(kind: bytes, content: bytes = b"", name: str = "top") -> bytes:
    header = tarfile.TarInfo(name)
    header.type, header.size = kind, len(content)
    return header.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


@pytest.mark.parametrize(
    "head",
    [
        _header(tarfile.GNUTYPE_LONGNAME, b"name\0") * 2000,
        _header(tarfile.XGLTYPE, b"11 K=value\n"),
        _header(tarfile.DIRTYPE) + _header(tarfile.XHDTYPE, b"16 linkpath=a\0b\n") + _header(tarfile.SYMTYPE, name="top/l"),
    ],
    ids=["names without a file", "for all files", "a zero byte"],
)
def test_headers_that_fill_the_memory_or_make_no_sense_are_refused(place: Path, head: bytes) -> None:
    with pytest.raises(archive.Hostile):
        read(io.BytesIO(head + _header(tarfile.REGTYPE)), place)
