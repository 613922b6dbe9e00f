"""Program files, output of supervisorctl, and the process between supervisord and a service."""

from __future__ import annotations

import configparser
import dataclasses
import json
import os
import pwd
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fakes.host import FakeHost

from nqrust.host.errors import CommandFailed
from nqrust.host.port import Completed
from nqrust.installer.supervisor.env_exec import make_runtime_directory, parse_env_file
from nqrust.installer.supervisor.registry import for_facts
from nqrust.installer.supervisor.spec import Hardening, ServiceSpec
from nqrust.installer.supervisor.supervisord import Supervisord, parse_status
from nqrust.installer.supervisor.systemd import SYSTEMD

S = Supervisord(bin_dir="/v/bin", config="/etc/x/supervisord.conf")


def command_of(spec: ServiceSpec) -> tuple[dict[str, str], list[str]]:
    """Parse the program file like supervisord. Return its options, and argv after the expansion of `%%`."""
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", " #"))
    parser.read_string(S.render(spec))
    options = dict(parser[f"program:{spec.name}"])
    return options, shlex.split(options["command"].replace("%%", "%"))


def test_secrets_stay_out_of_argv() -> None:
    spec = ServiceSpec("m", "M", ("/m", "50%"), user="nqrust", group="nqrust", env_file="/etc/x/m.env", order=300)
    options, argv = command_of(spec)
    assert argv[:4] == ["/v/bin/python", "-I", "-m", "nqrust.installer.supervisor.env_exec"]
    assert argv[argv.index("--env-file") + 1] == "/etc/x/m.env" and argv[-2:] == ["/m", "50%"]
    assert options["priority"] == "300" and options["autorestart"] == "true" and options["stopasgroup"] == "true"
    assert options["stdout_logfile_maxbytes"] == "10MB"


def test_a_strict_service_gives_up_the_same_as_under_systemd() -> None:
    _, argv = command_of(ServiceSpec("d", "D", ("/d",), capabilities=("CAP_NET_RAW", "CAP_SETUID")))
    assert argv[argv.index("--capabilities") + 1] == "CAP_NET_RAW,CAP_SETUID" and "--no-new-privileges" in argv
    _, agent = command_of(ServiceSpec("a", "A", ("/a",), hardening=Hardening.host))
    assert "--capabilities" not in agent and "--no-new-privileges" not in agent


def test_processes_started_by_the_agent_survive_its_stop() -> None:
    options, _ = command_of(ServiceSpec("a", "A", ("/a",), keeps_children=True))
    assert options["stopasgroup"] == options["killasgroup"] == "false"


def test_oneshot_is_held_so_that_it_can_be_taken_back() -> None:
    options, argv = command_of(ServiceSpec("n", "N", ("/up",), oneshot=True, stop_argv=("/down", "a b")))
    assert json.loads(argv[argv.index("--hold-stop") + 1]) == ["/down", "a b"] and options["autorestart"] == "false"


def test_main_file_keeps_the_socket_to_root() -> None:
    parser = configparser.RawConfigParser()
    parser.read_string(S.render_main())
    assert parser["unix_http_server"]["chmod"] == "0600" and "inet_http_server" not in parser
    assert parser["include"]["files"] == "/etc/x/supervisord.d/*.conf"


@pytest.mark.parametrize(
    "line, active, failed, since",
    [
        ("m   RUNNING   pid 812, uptime 0:01:05", True, False, 935.0),
        ("m   RUNNING   pid 812, uptime 2 days, 0:00:01", True, False, 1000.0 - 172801),
        ("m   STARTING", False, False, None),
        ("m   BACKOFF   Exited too quickly (process log may have details)", False, False, None),
        ("m   FATAL     Exited too quickly (process log may have details)", False, True, None),
        ("m   EXITED    Nov 22 10:00 PM", False, False, None),
    ],
)
def test_status(line: str, active: bool, failed: bool, since: float | None) -> None:
    state = parse_status(f"other RUNNING pid 1, uptime 0:00:01\n{line}\n", "m", enabled=True, now=1000.0)
    assert (state.known, state.active, state.failed, state.since) == (True, active, failed, since)


def test_unknown_program_and_dead_supervisord() -> None:
    assert not parse_status("m: ERROR (no such process)\n", "m", enabled=False, now=0.0).known
    host = FakeHost.debian12()
    host.on("/v/bin/supervisorctl", prefix=True, answer=CommandFailed(("supervisorctl",), 1, "no such file"))
    assert not S.state(host, "m").known


def test_restart_happens_once() -> None:
    """`update` restarts services with changed files. Another restart would be a second outage."""
    for said, acts in (("m: stopped\nm: updated process group\n", []), ("", ["restart"])):
        host = FakeHost.debian12()
        host.on(*S.control, "update", "m", answer=said, changes=True)
        host.on(*S.control, "restart", "m", answer="m: stopped\nm: started\n", changes=True)
        S.restart(host, "m.service")
        assert [c.argv[3] for c in host.commands] == ["update", *acts]


def test_refused_start_is_an_error() -> None:
    host = FakeHost.debian12()
    host.on(*S.control, "update", "m", answer="")
    host.on(*S.control, "start", "m", answer="m: ERROR (spawn error)\n")
    with pytest.raises(CommandFailed, match="spawn error"):
        S.start(host, "m")


def test_supervisor_is_chosen_by_facts() -> None:
    assert for_facts("systemd") is SYSTEMD and for_facts("none", S) is S


@pytest.mark.parametrize(
    "line, value",
    [
        ("A=b", "b"), ("A=b c ", "b c"), ("A='b $c'", "b $c"), ('A="b\\"c\\n"', 'b"c\\n'), ("A=b\\\nc", "bc"),
        ("A=", ""), ("A=postgresql://u:p%40w@h/db?x=1#y", "postgresql://u:p%40w@h/db?x=1#y"), ("A=b\\ c", "b c"),
    ],
)  # fmt: skip
def test_environment_file_as_systemd_reads_it(line: str, value: str) -> None:
    assert parse_env_file(f"# comment\n; comment\n\nnot a line\n{line}\n") == {"A": value}


def run_env_exec(*argv: str) -> subprocess.CompletedProcess[str]:
    module = ["-I", "-m", "nqrust.installer.supervisor.env_exec"]
    return subprocess.run([sys.executable, *module, *argv], capture_output=True, text=True, timeout=30, check=False)


def test_service_starts_with_a_clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEAKED", "secret")
    (tmp_path / "env").write_text("FROM_FILE='a b'\n")
    done = run_env_exec("--env-file", str(tmp_path / "env"), "--setenv", "X=1=2", "--", "/usr/bin/env")
    assert done.returncode == 0, done.stderr
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert found["FROM_FILE"] == "a b" and found["X"] == "1=2" and "LEAKED" not in found and found["HOME"]


def test_programs_gain_no_privileges_and_only_the_named_capabilities() -> None:
    argv = ("--no-new-privileges", "--capabilities", "CAP_NET_RAW,CAP_SETUID", "--", "/bin/cat", "/proc/self/status")
    done = run_env_exec(*argv)
    assert done.returncode == 0, done.stderr
    found = dict(line.split(":\t", 1) for line in done.stdout.splitlines() if ":\t" in line)
    assert found["NoNewPrivs"] == "1"
    if os.geteuid() == 0:  # prctl(2): the bounding set is for CAP_SETPCAP to change
        assert int(found["CapBnd"], 16) == int(found["CapEff"], 16) == 1 << 13 | 1 << 7


def test_memory_has_a_limit_where_the_service_asks_for_one() -> None:
    spec = ServiceSpec("u", "U", ("/u",), memory_mib=512)
    _, argv = command_of(spec)
    assert argv[argv.index("--memory") + 1] == "512"
    assert "--memory" not in command_of(dataclasses.replace(spec, compiles=True))[1]
    program = (sys.executable, "-c", "bytearray(100 << 20); print('fits'); bytearray(1 << 30)")
    done = run_env_exec("--memory", "512", "--", *program)
    assert done.stdout == "fits\n" and "MemoryError" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to another user")
def test_a_runtime_directory_changes_hands_with_all_that_is_in_it(tmp_path: Path) -> None:
    here = tmp_path / "run"
    (here / "sessions").mkdir(parents=True, mode=0o700)
    (here / "sessions" / "one").write_text("x")
    other = tmp_path / "other"
    other.write_text("not of the service")
    (here / "link").symlink_to(other)
    make_runtime_directory(str(here), "nobody", None)
    nobody = pwd.getpwnam("nobody").pw_uid
    assert {p.lstat().st_uid for p in (here, *here.rglob("*"))} == {nobody} and other.stat().st_uid == 0


def test_held_oneshot_runs_its_way_back_on_sigterm(tmp_path: Path) -> None:
    mark = tmp_path / "up"
    stop = json.dumps(["/bin/rm", str(mark)])
    argv = [sys.executable, "-I", "-m", "nqrust.installer.supervisor.env_exec", "--hold-stop", stop, "--", "/bin/sh", "-c",
            f"echo up > {mark}; echo done"]  # fmt: skip
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "done\n"
        process.terminate()  # may come before or after it has begun to wait
        assert process.wait(30) == 0
    assert not mark.exists()


def test_failed_oneshot_is_a_failure() -> None:
    assert run_env_exec("--hold-stop", "[]", "--", "/bin/sh", "-c", "exit 3").returncode == 3


def test_the_states_of_several_programs_come_from_one_question() -> None:
    host = FakeHost.debian12()
    host.put(S.unit_path("a"), "")
    told = "a                RUNNING   pid 7, uptime 0:00:05\nab: ERROR (no such process)\nb                FATAL     Exited too quickly\n"
    host.on(*S.control, "status", prefix=True, answer=Completed((), 4, told, ""))
    looked = S.looked(host, ["a", "ab", "b"])
    a, ab, b = (looked.state(host, name) for name in ("a", "ab", "b"))
    assert (a.active, a.enabled, a.pid) == (True, True, 7)
    assert (ab.known, ab.enabled, ab.text) == (False, False, "ab: ERROR (no such process)")
    assert (b.failed, b.active) == (True, False)
    assert [cmd.argv[-3:] for cmd in host.commands] == [("a", "ab", "b")]


def test_a_supervisord_that_does_not_answer_is_asked_again() -> None:
    host = FakeHost.debian12()
    host.on(*S.control, "status", prefix=True, answer=CommandFailed(("supervisorctl",), 2, "refused"))
    assert S.looked(host, ["a"]).state(host, "a").text == "supervisord does not answer"
    assert len(host.commands) == 2


def test_it_starts_without_the_proxies_of_the_install() -> None:
    """Its programs run as other users, and each would have the proxy's password in its environment."""
    env, without, *variables = Supervisord().start_command[:-3]
    assert (env, without) == ("env", "-i")
    assert {one.partition("=")[0] for one in variables} == {"PATH", "HOME", "USER", "LOGNAME", "LC_ALL", "DEBIAN_FRONTEND"}
