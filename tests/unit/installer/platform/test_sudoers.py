"""nqr never leaves a broken sudoers file."""

from __future__ import annotations

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.verbs.lifecycle import applied, planned, round_trip

from nqrust.host.errors import CommandFailed
from nqrust.host.port import Command
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import Conflict, Needed, Satisfied
from nqrust.installer.platform.sudoers import Sudoers

PATH = "/etc/sudoers.d/nqrust"
GOOD = "nqrust ALL=(root) NOPASSWD: /bin/true\n"


@pytest.fixture
def host() -> FakeHost:
    """visudo rejects the word BROKEN, in one file or in the whole tree."""
    host = FakeHost.debian12()

    def visudo(host: FakeHost, cmd: Command) -> str:
        paths = (
            [cmd.argv[3]]
            if len(cmd.argv) > 2
            else [f"/etc/sudoers.d/{n}" for n in host.listdir("/etc/sudoers.d") if "." not in n]
        )
        for path in paths:
            if "BROKEN" in host.read_text(path):
                raise CommandFailed(cmd.argv, 1, f"{path}:1:5: syntax error\n")
        return "parsed OK\n"

    host.on("visudo", prefix=True, answer=visudo)
    host.install("sudo")
    return host


def test_sudo_rules_are_checked_installed_and_removed(host: FakeHost) -> None:
    round_trip(host, Sudoers(PATH, GOOD))
    host.put(PATH, "# older\n", mode=0o440)
    round_trip(host, Sudoers(PATH, GOOD))


def test_mode_is_what_sudo_insists_on(host: FakeHost) -> None:
    applied(host, Sudoers(PATH, GOOD))
    stat = host.stat(PATH)
    assert stat is not None and (stat.mode, stat.owner) == (0o440, "root")
    host.set_mode(PATH, mode=0o644, owner="root", group="root")
    assert isinstance(Sudoers(PATH, GOOD).inspect(host), Needed)


def test_broken_sudo_rules_are_never_installed(host: FakeHost) -> None:
    host.put(PATH, "# older\n", mode=0o440)
    with pytest.raises(StepFailed) as caught:
        Sudoers(PATH, "BROKEN\n").apply(host)
    assert caught.value.code == "NQR-SUD-104" and "syntax error" in caught.value.what
    assert host.read_text(PATH) == "# older\n" and host.listdir("/etc/sudoers.d") == ["nqrust"]


@pytest.mark.parametrize("before", [None, "# older\n"])
def test_sudo_rules_that_break_the_policy_are_removed_at_once(host: FakeHost, before: str | None) -> None:
    if before is not None:
        host.put(PATH, before, mode=0o440)
    calls: list[tuple[str, ...]] = []

    def third_fails(host: FakeHost, cmd: Command) -> None:
        calls.append(cmd.argv)
        if len(calls) == 3:
            raise CommandFailed(cmd.argv, 1, "/etc/sudoers.d/zz: Alias already defined\n")

    host.on("visudo", prefix=True, answer=third_fails)
    with pytest.raises(StepFailed) as caught:
        Sudoers(PATH, GOOD).apply(host)
    assert caught.value.code == "NQR-SUD-105" and "Alias" in caught.value.what
    assert host.exists(PATH) is (before is not None)
    assert before is None or host.read_text(PATH) == before


def test_sudo_rules_broken_by_another_file_are_reported_as_such(host: FakeHost) -> None:
    host.put("/etc/sudoers.d/other", "BROKEN\n")
    with pytest.raises(StepFailed) as caught:
        Sudoers(PATH, GOOD).apply(host)
    assert caught.value.code == "NQR-SUD-103" and not host.exists(PATH)
    found = Sudoers(PATH, GOOD).inspect(host)
    assert isinstance(found, Conflict) and found.code == "NQR-SUD-103", "told before anything is touched"


def test_sudo_without_visudo_is_a_conflict_and_no_sudo_is_a_plan(host: FakeHost) -> None:
    host.uninstall("visudo")
    found = Sudoers(PATH, GOOD).inspect(host)
    assert isinstance(found, Conflict) and found.code == "NQR-SUD-101"
    host.uninstall("sudo")
    assert planned(host, Sudoers(PATH, GOOD))
    with pytest.raises(StepFailed, match="NQR-SUD-102"):
        Sudoers(PATH, GOOD).apply(host)


def test_killed_between_check_and_rename_leaves_nothing_that_sudo_reads(host: FakeHost) -> None:
    step = Sudoers(PATH, GOOD)
    host.put(PATH + ".nqr-candidate", GOOD, mode=0o440)
    host.put(PATH, GOOD, mode=0o440)
    assert isinstance(step.inspect(host), Needed)
    step.apply(host)
    assert isinstance(step.inspect(host), Satisfied) and host.listdir("/etc/sudoers.d") == ["nqrust"]


def test_name_that_sudo_would_skip_is_refused() -> None:
    with pytest.raises(ValueError, match="would not read"):
        Sudoers("/etc/sudoers.d/nqrust.conf", GOOD)
