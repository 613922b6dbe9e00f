"""Behaviour that needs a real machine: processes, durability, races, mounts."""

from __future__ import annotations

import http.server
import os
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nqrust.host.errors import CommandFailed, CommandTimedOut, HostError, NoSpace, PathError
from nqrust.host.local import LocalHost
from nqrust.host.port import Command, command
from nqrust.host.secret import MASK, Secret

ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="needs root")


@pytest.fixture
def host() -> LocalHost:
    return LocalHost()


def written(host: LocalHost, path: Path, data: bytes | Secret = b"x", mode: int = 0o644) -> None:
    host.write_file(str(path), data, mode=mode, owner=str(os.geteuid()), group=str(os.getegid()))


# --- programs


def test_the_environment_is_scrubbed(host: LocalHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("https_proxy", "http://10.1.1.1:3128")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    lines = host.run(command("env", env={"EXTRA": Secret("given")})).stdout.splitlines()
    seen = dict(line.split("=", 1) for line in lines)
    assert seen["LC_ALL"] == "C.UTF-8" and seen["DEBIAN_FRONTEND"] == "noninteractive"
    assert seen["https_proxy"] == seen["HTTPS_PROXY"] == "http://10.1.1.1:3128"
    assert seen["EXTRA"] == "given"
    assert not {"LD_PRELOAD", "LANG", "PYTHONPATH"} & set(seen)


def test_standard_input_is_empty_unless_given(host: LocalHost) -> None:
    assert host.run(command("cat", timeout=5)).stdout == ""
    assert host.run(command("cat", input=b"")).stdout == ""
    big = b"0123456789" * 300_000
    assert len(host.run(command("cat", input=big, timeout=30)).stdout) == len(big)
    # A program that does not read what it is given is no error.
    host.run(command("true", input=big, timeout=30))


def test_both_streams_are_drained_at_once(host: LocalHost) -> None:
    script = "for i in $(seq 20000); do echo out-$i; echo err-$i >&2; done"
    lines: list[str] = []
    done = host.run(command("sh", "-c", script, timeout=60), on_line=lines.append)
    assert len(lines) == 40000
    assert done.stdout.count("\n") == done.stderr.count("\n") == 20000


def test_output_lines_arrive_as_they_are_printed(host: LocalHost) -> None:
    seen: list[tuple[str, float]] = []
    host.run(
        command("sh", "-c", "echo first; sleep 0.5; printf '10%%\\r20%%\\rlast'"),
        on_line=lambda line: seen.append((line, time.monotonic())),
    )
    assert [line for line, _ in seen] == ["first", "10%", "20%", "last"]
    assert seen[1][1] - seen[0][1] > 0.3


def test_a_daemon_left_behind_does_not_keep_us_waiting(host: LocalHost) -> None:
    started = time.monotonic()
    done = host.run(command("sh", "-c", "sleep 30 & echo $!"))
    assert time.monotonic() - started < 3
    assert host.kill(int(done.stdout), 9)


def test_a_program_that_runs_too_long_is_ended_with_its_children(host: LocalHost, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    started = time.monotonic()
    with pytest.raises(CommandTimedOut, match="did not end within"):
        host.run(command("sh", "-c", f"sleep 60 & echo $! $$ > {pids}; wait", timeout=0.5))
    assert time.monotonic() - started < 5
    for pid in pids.read_text().split():
        _ends(int(pid))


def test_an_exception_while_a_program_runs_leaves_nothing_running(host: LocalHost, tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    def stop(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        host.run(command("sh", "-c", f"sleep 60 & echo $! > {pids}; echo now; wait"), on_line=stop)
    _ends(int(pids.read_text()))


def test_secrets_do_not_come_back_in_lines_or_errors(host: LocalHost) -> None:
    lines: list[str] = []
    failing: Command = command(
        "sh", "-c", 'echo "got $TOKEN"; cat >&2; exit 1', env={"TOKEN": Secret("tok-4711")}, input=Secret("pass-0815")
    )
    with pytest.raises(CommandFailed) as caught:
        host.run(failing, on_line=lines.append)
    assert sorted(lines) == [MASK, f"got {MASK}"]
    assert "pass-0815" not in str(caught.value) + caught.value.stderr + caught.value.stdout
    assert "tok-4711" not in repr(failing)


@needs_root
def test_running_as_another_user_drops_every_group(host: LocalHost) -> None:
    done = host.run(command("sh", "-c", "id -u; id -G; echo $HOME $USER", user="nobody"))
    nobody = host.user("nobody")
    assert nobody is not None
    uid, groups, rest = done.stdout.splitlines()
    assert int(uid) == nobody.uid and "0" not in groups.split()
    assert rest == f"{nobody.home} nobody"


def test_missing_working_directory_has_its_own_error(host: LocalHost) -> None:
    with pytest.raises(PathError, match="/no/such/place"):
        host.run(command("true", cwd="/no/such/place"))


def test_observer_sees_every_command() -> None:
    heard: list[tuple[tuple[str, ...], int]] = []
    host = LocalHost(observe=lambda cmd, code, seconds: heard.append((cmd.argv, code)))
    host.run(command("false", ok=(0, 1)))
    assert heard == [(("false",), 1)]


# --- files


def test_a_secret_is_never_readable_by_others_not_even_for_a_moment(host: LocalHost, tmp_path: Path) -> None:
    seen: set[int] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for name in os.listdir(tmp_path):
                try:
                    found = os.stat(tmp_path / name)
                except FileNotFoundError:
                    continue
                if found.st_size:
                    seen.add(stat.S_IMODE(found.st_mode) & 0o077)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(50):
            written(host, tmp_path / "secret", Secret("x" * 10000), 0o600)
    finally:
        stop.set()
        watcher.join()
    assert seen <= {0}


def test_next_write_removes_the_temporary_file_of_a_killed_writer(host: LocalHost, tmp_path: Path) -> None:
    leftover = tmp_path / ".config.nqr-new"
    leftover.write_bytes(b"half")
    written(host, tmp_path / "config", b"whole")
    assert os.listdir(tmp_path) == ["config"]
    leftover.write_bytes(b"half")
    host.remove(str(tmp_path / "config"))
    assert os.listdir(tmp_path) == []
    leftover.write_bytes(b"half")  # cut off before the file was ever there
    host.remove(str(tmp_path / "config"))
    assert os.listdir(tmp_path) == []


def test_a_planted_temporary_file_gets_no_secret(host: LocalHost, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("kept")
    (tmp_path / ".a.nqr-new").symlink_to(victim)
    written(host, tmp_path / "a", b"secret", 0o600)
    assert victim.read_text() == "kept"
    os.link(victim, tmp_path / ".b.nqr-new")
    written(host, tmp_path / "b", b"secret", 0o600)
    assert victim.read_text() == "kept" and (tmp_path / "b").read_bytes() == b"secret"


def test_writers_of_the_same_file_do_not_mix(host: LocalHost, tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def write(letter: bytes) -> None:
        try:
            for _ in range(20):
                written(host, tmp_path / "shared", letter * 50_000)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    content = (tmp_path / "shared").read_bytes()
    assert len(content) == 50_000 and len(set(content)) == 1
    assert os.listdir(tmp_path) == ["shared"]


def test_failed_write_leaves_the_old_content_and_no_temporary_file(host: LocalHost, tmp_path: Path) -> None:
    written(host, tmp_path / "a", b"old")
    with pytest.raises(PathError):
        host.write_file(
            str(tmp_path / "a"), b"new", owner=str(os.geteuid()), group=str(os.getegid()), xattrs={"nonsense.name": b"x"}
        )
    assert (tmp_path / "a").read_bytes() == b"old" and os.listdir(tmp_path) == ["a"]


def test_a_very_long_name_can_be_written(host: LocalHost, tmp_path: Path) -> None:
    written(host, tmp_path / ("n" * 255), b"x")
    assert os.listdir(tmp_path) == ["n" * 255]


def test_written_file_keeps_its_holes(host: LocalHost, tmp_path: Path) -> None:
    source = tmp_path / "disk"
    with open(source, "wb") as file:
        file.write(b"begin")
        file.seek(64 << 20)
        file.write(b"end")
        file.truncate(128 << 20)
    host.copy_file(str(source), str(tmp_path / "copy"), mode=0o600, owner=str(os.geteuid()), group=str(os.getegid()))
    copy = os.stat(tmp_path / "copy")
    assert copy.st_size == 128 << 20 and copy.st_blocks * 512 < 4 << 20
    assert host.sha256(str(source)) == host.sha256(str(tmp_path / "copy"))


def test_extended_attributes_are_written_and_read(host: LocalHost, tmp_path: Path) -> None:
    path = tmp_path / "a"
    try:
        host.write_file(str(path), b"", owner=str(os.geteuid()), group=str(os.getegid()), xattrs={"user.nq": b"1"})
    except PathError:
        pytest.skip("the temporary folder's file system has no user attributes")
    assert host.xattrs(str(path)) == {"user.nq": b"1"}


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A tree with a small tmpfs and a bind mount in it, in our own mount namespace's table."""
    if not ROOT:
        pytest.skip("needs root to mount")
    (tmp_path / "tree/inner/tmpfs").mkdir(parents=True)
    (tmp_path / "tree/inner/bind").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/precious").write_text("kept")
    (tmp_path / "tree/a-file").write_text("x")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "nq", tmp_path / "tree/inner/tmpfs"], capture_output=True)
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.decode().strip()}")
    subprocess.run(["mount", "--bind", tmp_path / "data", tmp_path / "tree/inner/bind"], check=True)
    yield tmp_path
    for name in ("bind", "tmpfs"):
        subprocess.run(["umount", tmp_path / "tree/inner" / name], check=False, capture_output=True)


def test_a_tree_with_a_mount_in_it_is_left_untouched(host: LocalHost, mounted: Path) -> None:
    tree = mounted / "tree"
    (tree / "inner/tmpfs/there").write_text("x")
    with pytest.raises(PathError, match="mounted"):
        host.remove_tree(str(tree))
    subprocess.run(["umount", tree / "inner/tmpfs"], check=True)
    with pytest.raises(PathError, match="inner/bind: something is mounted"):
        host.remove_tree(str(tree))  # a bind mount of the same file system
    assert (tree / "a-file").exists() and (mounted / "data/precious").exists()
    subprocess.run(["umount", tree / "inner/bind"], check=True)
    host.remove_tree(str(tree))
    assert not tree.exists() and (mounted / "data/precious").exists()


def test_a_mount_is_seen_through_a_symlinked_parent(host: LocalHost, mounted: Path) -> None:
    (mounted / "alias").symlink_to(mounted / "tree")
    with pytest.raises(PathError, match="mounted"):
        host.remove_tree(str(mounted / "alias/inner"))
    assert (mounted / "data/precious").exists()


def test_full_file_system_has_its_own_error(host: LocalHost, mounted: Path) -> None:
    full = mounted / "tree/inner/tmpfs"
    with pytest.raises(NoSpace, match="full"):
        written(host, full / "big", b"x" * 1_000_000)
    assert os.listdir(full) == []


def test_a_deep_tree_is_removed(host: LocalHost, tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    path = deep
    for _ in range(300):
        path = path / "d"
    path.mkdir(parents=True)
    (path / "file").write_text("x")
    host.remove_tree(str(deep))
    assert not deep.exists()


# --- network


class _Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/redirect":
            self.send_response(302)
            self.send_header("Location", "/health")
            self.end_headers()
            return
        body = self.headers.get("Authorization", "none").encode() if self.path == "/auth" else b"x" * (2 << 20)
        self.send_response(200)
        self.end_headers()
        try:
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def do_DELETE(self) -> None:
        self.send_response(204 if self.headers.get("Authorization") == "Bearer t" else 401)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answer)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{running.server_address[1]}"
    running.shutdown()
    running.server_close()
    thread.join()


def test_host_makes_http_requests(host: LocalHost, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert host.http_get(f"{server}/auth", headers={"Authorization": Secret("Bearer t")}) == (200, b"Bearer t")
    assert host.http_get(f"{server}/redirect")[0] == 302
    assert host.http_send("DELETE", f"{server}/thing", headers={"Authorization": Secret("Bearer t")}) == (204, b"")
    assert host.http_send("DELETE", f"{server}/thing")[0] == 401
    assert len(host.http_get(f"{server}/big")[1]) == 1 << 20
    assert host.connect("127.0.0.1", int(server.rpartition(":")[2]))
    with pytest.raises(HostError):
        host.http_get("file:///etc/passwd")
    with pytest.raises(HostError):
        host.http_get("http://127.0.0.1:99999/")


def test_owner_names_follow_the_account_database(host: LocalHost, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("x")
    if ROOT:
        os.chown(path, 54321, 54321)
        found = host.stat(str(path))
        assert found is not None and (found.owner, found.group) == ("54321", "54321")
    shutil.rmtree(tmp_path)


def _ends(pid: int) -> None:
    """It has been killed; the kernel takes it away when it next looks at it."""
    deadline = time.monotonic() + 10
    while _alive(pid):
        assert time.monotonic() < deadline, f"process {pid} still runs"
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
