"""One suite for the real host and the fake host, so that the fake behaves like the real one."""

from __future__ import annotations

import errno
import grp
import os
import pwd
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.fakes.host import FakeHost

from nqrust.host.errors import CommandFailed, HostError, PathError, PathMissing, ProgramMissing
from nqrust.host.local import LocalHost
from nqrust.host.port import Completed, Host, Kind, command
from nqrust.host.secret import Secret

ME = pwd.getpwuid(os.geteuid()).pw_name
MINE = grp.getgrgid(os.getegid()).gr_name


class Machine:
    """A host and a folder on it that is empty."""

    def __init__(self, host: Host, root: str) -> None:
        self.host, self.root = host, root

    def at(self, name: str) -> str:
        return f"{self.root}/{name}"

    def write(self, name: str, data: bytes | Secret = b"x", mode: int = 0o644) -> str:
        self.host.write_file(self.at(name), data, mode=mode, owner=ME, group=MINE)
        return self.at(name)

    def mkdir(self, name: str, mode: int = 0o755) -> str:
        self.host.mkdir(self.at(name), mode=mode, owner=ME, group=MINE)
        return self.at(name)


def _fake(_: Path) -> Machine:
    host = FakeHost.debian12()
    if ME not in host.users:
        host.add_user(ME, os.geteuid(), MINE)
    host.put_directory("/scratch/here")
    host.on("true")
    host.on("false", answer=Completed((), 1, "", ""))
    host.on("sh", "-c", "echo one; echo two >&2; exit 3", answer=Completed((), 3, "one\n", "two\n"))
    host.uninstall("surely-not-there")
    return Machine(host, "/scratch/here")


def _local(folder: Path) -> Machine:
    return Machine(LocalHost(), os.path.realpath(folder))


@pytest.fixture(params=[_fake, _local], ids=["fake", "local"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    make: Callable[[Path], Machine] = request.param
    return make(tmp_path)


# --- files


def test_a_file_that_comes_in_pieces_appears_whole_or_not_at_all(machine: Machine) -> None:
    path = machine.write("large", b"before")

    def cut_off() -> Iterator[bytes]:
        yield b"one, "
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        machine.host.write_file(path, cut_off(), owner=ME, group=MINE)
    assert machine.host.read_bytes(path) == b"before"
    machine.host.write_file(path, iter([b"one, ", b"", b"two"]), owner=ME, group=MINE)
    assert machine.host.read_bytes(path) == b"one, two"
    assert machine.host.listdir(machine.root) == ["large"]


def test_a_written_file_has_the_content_mode_and_owner_asked_for(machine: Machine) -> None:
    before = os.umask(0o077)
    try:
        path = machine.write("a", b"hello", 0o664)
    finally:
        os.umask(before)
    found = machine.host.stat(path)
    assert found is not None
    assert (found.kind, found.mode, found.owner, found.group, found.size) == (Kind.file, 0o664, ME, MINE, 5)
    assert machine.host.read_bytes(path) == b"hello"
    assert machine.host.read_bytes(path, 2) == b"he"
    assert machine.host.listdir(machine.root) == ["a"]


def test_writing_replaces_content_and_mode(machine: Machine) -> None:
    machine.write("a", b"one", 0o600)
    path = machine.write("a", b"two", 0o640)
    found = machine.host.stat(path)
    assert found is not None and found.mode == 0o640
    assert machine.host.read_text(path) == "two"


def test_a_secret_is_written_in_clear(machine: Machine) -> None:
    path = machine.write("secret", Secret("s3cret"), 0o600)
    assert machine.host.read_text(path) == "s3cret"


def test_writing_over_a_symlink_replaces_the_symlink(machine: Machine) -> None:
    target = machine.write("target", b"kept")
    machine.host.symlink("target", machine.at("link"))
    machine.write("link", b"new")
    found = machine.host.stat(machine.at("link"))
    assert found is not None and found.kind is Kind.file
    assert machine.host.read_bytes(target) == b"kept"


def test_writing_into_a_missing_folder_is_refused(machine: Machine) -> None:
    with pytest.raises(PathMissing):
        machine.write("no/a")


def test_writing_below_a_file_is_refused(machine: Machine) -> None:
    machine.write("file")
    with pytest.raises(PathError):
        machine.write("file/a")
    assert machine.host.stat(machine.at("file/a")) is None


def test_writing_over_a_folder_is_refused(machine: Machine) -> None:
    machine.mkdir("folder")
    with pytest.raises(PathError):
        machine.write("folder")
    assert machine.host.listdir(machine.root) == ["folder"]


def test_an_unknown_owner_is_refused_and_nothing_is_written(machine: Machine) -> None:
    with pytest.raises(PathError, match="no user nq-none"):
        machine.host.write_file(machine.at("a"), b"", owner="nq-none", group=MINE)
    with pytest.raises(PathError, match="no group nq-none"):
        machine.host.mkdir(machine.at("a"), owner=ME, group="nq-none")
    assert machine.host.listdir(machine.root) == []


def test_reading_a_missing_file_fails(machine: Machine) -> None:
    for read in (
        machine.host.read_bytes,
        machine.host.read_text,
        machine.host.sha256,
        machine.host.listdir,
        machine.host.readlink,
        machine.host.xattrs,
    ):
        with pytest.raises(PathMissing):
            read(machine.at("nothing"))
    assert machine.host.stat(machine.at("nothing")) is None
    assert not machine.host.exists(machine.at("nothing"))


def test_a_folder_is_not_read_as_a_file_nor_a_file_listed(machine: Machine) -> None:
    folder, file = machine.mkdir("folder"), machine.write("file")
    with pytest.raises(PathError):
        machine.host.read_bytes(folder)
    with pytest.raises(PathError):
        machine.host.listdir(file)
    with pytest.raises(PathError):
        machine.host.readlink(file)


def test_the_digest_is_that_of_the_content(machine: Machine) -> None:
    assert machine.host.sha256(machine.write("a", b"abc")) == ("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")


def test_text_that_is_not_utf8_is_still_text(machine: Machine) -> None:
    assert machine.host.read_text(machine.write("a", b"na\xefve")) == "na\N{REPLACEMENT CHARACTER}ve"


def test_copying_a_file(machine: Machine) -> None:
    source = machine.write("a", b"data" * 5000, 0o600)
    machine.host.copy_file(source, machine.at("b"), mode=0o750, owner=ME, group=MINE)
    found = machine.host.stat(machine.at("b"))
    assert found is not None and (found.mode, found.size) == (0o750, 20000)
    assert machine.host.sha256(source) == machine.host.sha256(machine.at("b"))
    with pytest.raises(PathMissing):
        machine.host.copy_file(machine.at("none"), machine.at("c"), mode=0o600, owner=ME, group=MINE)
    with pytest.raises(PathError):
        machine.host.copy_file(machine.root, machine.at("c"), mode=0o600, owner=ME, group=MINE)
    with pytest.raises(PathError) as refused:
        machine.host.copy_file(source, machine.at("c"), mode=0o600, owner=ME, group=MINE, largest=1)
    assert refused.value.errno == errno.EFBIG and not machine.host.exists(machine.at("c"))


# --- folders


def test_making_a_folder(machine: Machine) -> None:
    before = os.umask(0o077)
    try:
        path = machine.mkdir("d", 0o2775)
    finally:
        os.umask(before)
    found = machine.host.stat(path)
    assert found is not None and (found.kind, found.mode) == (Kind.directory, 0o2775)


def test_a_folder_is_not_made_twice_nor_without_its_parent(machine: Machine) -> None:
    machine.mkdir("d")
    with pytest.raises(PathError):
        machine.mkdir("d")
    with pytest.raises(PathMissing):
        machine.mkdir("x/y")


def test_only_an_empty_folder_is_removed(machine: Machine) -> None:
    folder = machine.mkdir("d")
    inner = machine.write("d/file")
    with pytest.raises(PathError):
        machine.host.rmdir(folder)
    machine.host.remove(inner)
    machine.host.rmdir(folder)
    assert not machine.host.exists(folder)
    with pytest.raises(PathMissing):
        machine.host.rmdir(folder)


def test_removing_a_tree_does_not_follow_symlinks(machine: Machine) -> None:
    machine.mkdir("outside")
    kept = machine.write("outside/kept")
    machine.mkdir("d")
    machine.mkdir("d/e")
    machine.write("d/e/file")
    machine.host.symlink(machine.at("outside"), machine.at("d/e/link"))
    machine.host.remove_tree(machine.at("d"))
    assert machine.host.listdir(machine.root) == ["outside"]
    assert machine.host.exists(kept)
    machine.host.remove_tree(machine.at("d"))  # missing is fine


def test_a_tree_is_a_folder_not_a_file_and_not_a_symlink(machine: Machine) -> None:
    machine.write("file")
    machine.mkdir("outside")
    machine.write("outside/kept")
    machine.host.symlink("outside", machine.at("link"))
    for name in ("file", "link"):
        with pytest.raises(PathError):
            machine.host.remove_tree(machine.at(name))
    assert machine.host.exists(machine.at("outside/kept"))


# --- symlinks, names, modes


def test_a_symlink_is_made_and_replaced(machine: Machine) -> None:
    link = machine.at("link")
    machine.host.symlink("one", link)
    machine.host.symlink("/two", link)
    found = machine.host.stat(link)
    assert found is not None and found.kind is Kind.symlink
    assert machine.host.readlink(link) == "/two"
    assert machine.host.listdir(machine.root) == ["link"]


def test_a_symlink_never_replaces_anything_else(machine: Machine) -> None:
    machine.write("file")
    machine.mkdir("folder")
    for name in ("file", "folder"):
        with pytest.raises(PathError):
            machine.host.symlink("x", machine.at(name))
    with pytest.raises(PathMissing):
        machine.host.symlink("x", machine.at("none/link"))


def test_renaming(machine: Machine) -> None:
    machine.write("a", b"a")
    machine.write("b", b"b")
    machine.host.rename(machine.at("a"), machine.at("b"))
    assert machine.host.listdir(machine.root) == ["b"]
    assert machine.host.read_bytes(machine.at("b")) == b"a"
    machine.mkdir("d")
    machine.write("d/inner")
    with pytest.raises(PathError):
        machine.host.rename(machine.at("b"), machine.at("d"))
    machine.mkdir("e")
    with pytest.raises(PathError):
        machine.host.rename(machine.at("e"), machine.at("d"))  # not empty
    with pytest.raises(PathError):
        machine.host.rename(machine.at("d"), machine.at("d/inside"))
    machine.host.rename(machine.at("d"), machine.at("e"))
    assert machine.host.exists(machine.at("e/inner"))
    with pytest.raises(PathMissing):
        machine.host.rename(machine.at("none"), machine.at("b"))


def test_setting_the_mode_does_not_reach_through_a_symlink(machine: Machine) -> None:
    target = machine.write("target", mode=0o640)
    machine.host.symlink("target", machine.at("link"))
    machine.host.set_mode(machine.at("link"), mode=0o777, owner=ME, group=MINE)
    found = machine.host.stat(target)
    assert found is not None and found.mode == 0o640
    machine.host.set_mode(target, mode=0o600, owner=ME, group=MINE)
    found = machine.host.stat(target)
    assert found is not None and found.mode == 0o600
    with pytest.raises(PathMissing):
        machine.host.set_mode(machine.at("none"), mode=0o600, owner=ME, group=MINE)


def test_removing(machine: Machine) -> None:
    target = machine.write("target")
    machine.host.symlink("target", machine.at("link"))
    machine.host.remove(machine.at("link"))
    assert machine.host.exists(target)
    machine.host.remove(target)
    machine.host.remove(target)  # missing is fine
    machine.host.remove(machine.at("no/such/folder/file"))
    machine.mkdir("d")
    with pytest.raises(PathError):
        machine.host.remove(machine.at("d"))


def test_globbing(machine: Machine) -> None:
    for folder in ("a", "a/b", "a/b/c"):
        machine.mkdir(folder)
    for file in ("a/1.conf", "a/.hidden.conf", "a/b/2.conf", "a/b/c/3.conf", "a/b/x.txt"):
        machine.write(file)
    root = machine.root
    assert machine.host.glob(f"{root}/a/*.conf") == [f"{root}/a/1.conf"]
    assert machine.host.glob(f"{root}/a/**/*.conf") == [f"{root}/a/1.conf", f"{root}/a/b/2.conf", f"{root}/a/b/c/3.conf"]
    assert machine.host.glob(f"{root}/*/b/[0-9].conf") == [f"{root}/a/b/2.conf"]
    assert machine.host.glob(f"{root}/a/b/x.txt") == [f"{root}/a/b/x.txt"]
    assert machine.host.glob(f"{root}/none/*") == []


def test_extended_attributes_of_a_plain_file(machine: Machine) -> None:
    assert machine.host.xattrs(machine.write("a")) == {}


def test_disk_usage_is_that_of_the_nearest_folder_that_exists(machine: Machine) -> None:
    usage = machine.host.disk_usage(machine.at("not/yet/there"))
    assert usage.total > usage.available > 0
    assert usage.mount_point and not usage.read_only


# --- accounts


def test_users_and_groups_are_looked_up(machine: Machine) -> None:
    root = machine.host.user("root")
    assert root is not None and (root.uid, root.home) == (0, "/root")
    assert machine.host.user("nq-none") is None
    group = machine.host.group("root")
    assert group is not None and group.gid == 0
    assert machine.host.group("nq-none") is None


# --- programs


def test_successful_program_returns_its_output(machine: Machine) -> None:
    done = machine.host.run(command("true"))
    assert (done.argv, done.code, done.stdout) == (("true",), 0, "")


def test_failed_program_reports_its_exit_code_and_output(machine: Machine) -> None:
    script = ("sh", "-c", "echo one; echo two >&2; exit 3")
    with pytest.raises(CommandFailed) as caught:
        machine.host.run(command(*script))
    assert (caught.value.code, caught.value.stdout, caught.value.stderr) == (3, "one\n", "two\n")
    lines: list[str] = []
    done = machine.host.run(command(*script, ok=(0, 3)), on_line=lines.append)
    assert done.code == 3 and sorted(lines) == ["one", "two"]


def test_missing_program_is_an_error(machine: Machine) -> None:
    assert machine.host.which("surely-not-there") is None
    with pytest.raises(ProgramMissing):
        machine.host.run(command("surely-not-there"))
    assert (machine.host.which("sh") or "").endswith("/sh")


def test_program_of_a_missing_user_is_an_error(machine: Machine) -> None:
    with pytest.raises(HostError, match="no user nq-none"):
        machine.host.run(command("true", user="nq-none"))


def test_a_process_that_is_not_there_cannot_be_signalled(machine: Machine) -> None:
    assert machine.host.kill(2**22 - 1, 0) is False
    with pytest.raises(HostError):
        machine.host.kill(0, 15)
    with pytest.raises(HostError):
        machine.host.kill(-1, 15)


def test_nobody_answers_on_a_closed_port(machine: Machine) -> None:
    assert machine.host.connect("127.0.0.1", 1, 0.2) is False
    with pytest.raises(HostError):
        machine.host.http_get("http://127.0.0.1:1/health", timeout=0.2)
    with pytest.raises(HostError):
        machine.host.http_send("POST", "http://127.0.0.1:1/v1/images/scan", timeout=0.2)
