"""Properties of the machine in memory on which tests rely."""

from __future__ import annotations

import pytest
from tests.fakes.host import FakeHost, UnexpectedCall

from nqrust.host.errors import CommandFailed, NoSpace, PathError, ProgramMissing
from nqrust.host.port import Command, Completed, command


def test_unexpected_program_raises_an_uncatchable_error() -> None:
    host = FakeHost.debian12()
    with pytest.raises(UnexpectedCall):
        try:
            host.run(command("rm", "-rf", "/"))
        except Exception:
            pytest.fail("it was caught")
    with pytest.raises(UnexpectedCall):
        host.write_file("relative", b"")


def test_answers_by_exact_arguments_and_by_prefix_the_latest_first() -> None:
    host = FakeHost.debian12()
    host.on("systemctl", prefix=True, answer=Completed((), 1, "", "no\n"))
    host.on("systemctl", "is-active", "a", answer="active\n")
    assert host.run(command("systemctl", "is-active", "a")).stdout == "active\n"
    with pytest.raises(CommandFailed, match="no"):
        host.run(command("systemctl", "start", "a"))
    host.uninstall("systemctl")
    assert host.which("systemctl") is None
    with pytest.raises(ProgramMissing):
        host.run(command("systemctl", "is-active", "a"))


def test_a_program_can_change_the_machine() -> None:
    def useradd(machine: FakeHost, cmd: Command) -> str:
        machine.add_user(cmd.argv[-1], 998)
        return "done\n"

    host = FakeHost.debian12()
    host.on("useradd", prefix=True, changes=True, answer=useradd)
    assert host.run(command("useradd", "--system", "nqrust")).stdout == "done\n"
    assert host.user("nqrust") is not None
    assert host.mutations == [("run", "useradd", "--system", "nqrust")]
    host.write_file("/opt/a", b"", owner="nqrust", group="nqrust")


def test_fake_failure_happens_at_the_requested_change() -> None:
    host = FakeHost.debian12()
    host.fail_at(2, NoSpace("/opt/b", "the file system is full"))
    host.write_file("/opt/a", b"1")
    with pytest.raises(NoSpace):
        host.write_file("/opt/b", b"2")
    assert host.exists("/opt/a") and not host.exists("/opt/b")
    host.write_file("/opt/b", b"2")  # once only
    host.fail_at(1, KeyboardInterrupt(), after=True)
    with pytest.raises(KeyboardInterrupt):
        host.write_file("/opt/c", b"3")
    assert host.exists("/opt/c")
    assert [change[1] for change in host.mutations] == ["/opt/a", "/opt/b", "/opt/c"]


def test_refused_changes_and_reads_are_not_counted() -> None:
    host = FakeHost.debian12()
    before = host.state()
    with pytest.raises(PathError):
        host.write_file("/none/a", b"")
    host.remove("/opt/none")
    host.listdir("/etc")
    assert host.mutations == [] and host.state() == before


def test_fake_host_states_compare_by_visible_content() -> None:
    host = FakeHost.debian12()
    other = host.copy()
    other.write_file("/opt/a", b"x")
    assert host.state() != other.state() and not host.exists("/opt/a")
    assert host.state(ignore=("/opt",)) == other.state(ignore=("/opt",))
    other.remove("/opt/a")
    assert host.state() == other.state()
    other.memory["ip_forward"] = "1"
    assert host.state() != other.state()


def test_a_mount_is_not_removed() -> None:
    host = FakeHost.debian12()
    host.put("/srv/fc/vms/disk", "precious")
    host.mount("/srv/fc")
    with pytest.raises(PathError, match="/srv/fc"):
        host.remove_tree("/srv")
    with pytest.raises(PathError):
        host.rename("/srv/fc", "/srv/other")
    assert host.read_text("/srv/fc/vms/disk") == "precious"


def test_fake_clock_advances_only_in_sleep() -> None:
    host = FakeHost.debian12()
    before = (host.now(), host.monotonic())
    host.sleep(2.5)
    assert (host.now() - before[0], host.monotonic() - before[1]) == (2.5, 2.5)


def test_links_are_followed_in_the_middle_of_a_path_and_loops_are_found() -> None:
    host = FakeHost.debian12()
    assert host.which("sh") == "/usr/bin/sh"
    assert host.exists("/bin/sh")
    host.symlink("loop", "/opt/loop")
    with pytest.raises(PathError):
        host.read_bytes("/opt/loop")
