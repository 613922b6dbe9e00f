"""`nqr vm exec`, `cp` and `ssh` typed while the guest boots: they wait for it, and only then."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from tests.unit.installer.effects import fake_manager
from tests.unit.installer.effects.fake_manager import FakeManager
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from nqrust.cli import signals
from nqrust.cli.__main__ import run
from nqrust.cli.vm import booting, copy, exec, ssh
from nqrust.client.waiting import boots_for
from nqrust.contract.guest import CloseCode, ExecRequest, Kind, message
from nqrust.contract.vms import Vm

NOW = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGtra2tra2tra2tra2tra2tra2tra2tra2tra2tra2tr"


class Guest:
    """Does not answer its first `silent` sessions. Then it echoes the input, or prints `says`."""

    def __init__(self) -> None:
        self.silent, self.asked, self.says = 2, 0, b""

    def answer(self, connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            first = connection.recv()
            assert isinstance(first, bytes) and ExecRequest.parse(first[1:]).command
            self.asked += 1
            if self.asked <= self.silent:
                connection.close(CloseCode.no_answer, "NQR-VMM-125: No guest agent in the VM answers.")
                return
            connection.send(message(Kind.started))
            if self.says:
                connection.send(message(Kind.stdout, self.says))
            for data in connection:
                if data == message(Kind.stdin):
                    break
                if isinstance(data, bytes) and data[0] == Kind.stdin:
                    connection.send(message(Kind.stdout, data[1:]))
            connection.send(message(Kind.exit, b"\0\0"))


class Clock:
    def __init__(self) -> None:
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture
def vm(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The manager's record of web1, which started five seconds ago."""
    shown = {"state": "running", "started_at": datetime.now(timezone.utc) - timedelta(seconds=5), "guest_up_at": None}
    manager = FakeManager()
    real = manager._shown
    monkeypatch.setattr(manager, "_shown", lambda: Vm.model_validate({**real(), **shown}).model_dump(mode="json"))
    manager.install(monkeypatch)
    monkeypatch.setenv("NQR_MANAGER_URL", "http://manager.example:1")
    monkeypatch.setenv("NQR_TOKEN", "good")
    return shown


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(booting, "time", clock)
    return clock


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Iterator[Guest]:
    guest = Guest()
    with open(os.devnull) as nothing, serve(guest.answer, "127.0.0.1", 0, compression=None) as server:
        monkeypatch.setattr(sys, "stdin", nothing)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for module in (exec, copy, ssh):
            monkeypatch.setattr(module, "ticket", lambda *_: (f"ws://127.0.0.1:{server.socket.getsockname()[1]}/exec", None))
        yield guest
        server.shutdown()


def test_command_waits_for_the_guest_and_its_input_comes_whole(
    vm: dict[str, Any], clock: Clock, guest: Guest, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"all of the input")
    os.close(writer)
    with open(reader) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert run(["vm", "exec", "-i", "web1", "--", "cat"]) == 0
    said = capfd.readouterr()
    assert said.out == "all of the input" and guest.asked == 3 and clock.slept == [0.25, 0.25]
    assert said.err.count("still booting") == 1


def test_no_wait_is_asked_for(vm: dict[str, Any], clock: Clock, guest: Guest, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["vm", "exec", "--boot-timeout", "0", "web1", "--", "true"]) == 125
    said = capfd.readouterr().err
    assert guest.asked == 1 and "NQR-VMM-130" in said and "nqr vm logs web1" in said and "booting" not in said


def test_wait_ends_with_the_boot_timeout(vm: dict[str, Any], clock: Clock, guest: Guest) -> None:
    guest.silent = 1000
    vm["started_at"] = datetime.now(timezone.utc) - timedelta(seconds=booting.PATIENCE - 0.5)
    assert run(["vm", "exec", "web1", "--", "true"]) == 125
    assert guest.asked >= 2, "half a second was left"


def test_guest_that_was_up_is_not_waited_for(vm: dict[str, Any], clock: Clock, guest: Guest) -> None:
    vm["guest_up_at"] = vm["started_at"]
    assert run(["vm", "exec", "web1", "--", "true"]) == 125
    assert guest.asked == 1


def test_signal_ends_the_wait_and_says_what_goes_on(
    vm: dict[str, Any], clock: Clock, guest: Guest, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def stopped(seconds: float) -> None:
        raise signals.Stopped("SIGINT")

    monkeypatch.setattr(clock, "sleep", stopped)
    assert run(["vm", "exec", "web1", "--", "true"]) == 130
    said = capfd.readouterr().err
    assert "NQR-USE-017" in said and "VM web1 continues to boot." in said and "nqr vm logs web1" in said


def test_copy_waits_for_the_guest(vm: dict[str, Any], clock: Clock, guest: Guest, tmp_path: Path) -> None:
    assert run(["vm", "cp", "web1:/no/archive", str(tmp_path)]) == 1, "the guest of this test has no tar"
    assert guest.asked == 4 and len(clock.slept) == 2


def test_ssh_waits_for_agent_keys_and_server(
    vm: dict[str, Any], clock: Clock, guest: Guest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: list[list[str]] = []
    refusals = [ConnectionRefusedError()]

    def knock(address: str) -> None:
        vm["guest_up_at"] = datetime.now(timezone.utc)
        if refusals:
            raise refusals.pop()

    def slept(seconds: float) -> None:
        clock.slept.append(seconds)
        if len(clock.slept) == 3:
            guest.says = f"{KEY} root@web1\n".encode()

    monkeypatch.setattr(clock, "sleep", slept)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(ssh.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(ssh.os, "execv", lambda program, argv: started.append(argv))
    monkeypatch.setattr(ssh, "_knock", knock)
    assert run(["vm", "ssh", "web1"]) == 0
    assert len(started) == 1 and "StrictHostKeyChecking=yes" in started[0]
    assert len(clock.slept) == 4, "twice without agent, once without keys, once without server"


def test_ssh_does_not_wait_if_the_image_has_no_server(
    vm: dict[str, Any], clock: Clock, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fake_manager.IMAGE["manifest"], "ssh_server", False)
    monkeypatch.setattr(ssh.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert run(["vm", "ssh", "web1"]) == 1
    assert guest.asked == 1 and not clock.slept


def test_ssh_does_not_go_through_this_machine_to_itself(
    vm: dict[str, Any], clock: Clock, guest: Guest, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    guest.silent, guest.says = 0, f"{KEY}\n".encode()
    vm["guest_up_at"] = vm["started_at"] - timedelta(hours=1)

    def unreachable(*_: Any) -> None:
        raise TimeoutError

    monkeypatch.setitem(fake_manager.HOST, "url", "http://127.0.0.1:19090")
    monkeypatch.setattr(ssh.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(ssh, "_knock", unreachable)
    assert run(["vm", "ssh", "web1"]) == 1
    assert "this machine does not reach 10.0.0.10" in capfd.readouterr().err and not clock.slept


@pytest.mark.parametrize(
    ("fields", "services", "left"),
    [
        ({"started_at": NOW - timedelta(seconds=100)}, False, 200),
        ({"started_at": NOW + timedelta(hours=1)}, False, 300),
        ({"started_at": NOW, "state": "paused"}, False, 0),
        ({"started_at": None}, False, 0),
        ({"started_at": NOW - timedelta(seconds=100), "guest_up_at": NOW}, False, 0),
        ({"started_at": NOW - timedelta(seconds=100), "guest_up_at": NOW}, True, 60),
        ({"started_at": NOW - timedelta(hours=1), "guest_up_at": NOW - timedelta(minutes=50)}, True, -2940),
    ],
)
def test_seconds_that_are_left(fields: dict[str, Any], services: bool, left: float) -> None:
    vm = Vm.model_validate({**fake_manager.VM, "state": "running", **fields})
    assert boots_for(vm, NOW, 300, services=services) == left


def test_a_guest_that_answers_at_once_costs_no_further_question() -> None:
    def never() -> bool:
        raise AssertionError("it was asked")

    assert booting.until_ready("web1", None, 300.0, lambda: 7, may_come=never) == 7


def test_a_server_that_cannot_come_is_not_waited_for(clock: Clock) -> None:
    def attempt() -> int:
        raise booting.NotReady("NQR-IMG-063", "No SSH server answers.", "Use the shell.")

    with pytest.raises(booting.NotReady):
        booting.until_ready("web1", None, 300.0, attempt, may_come=lambda: False)
    assert clock.slept == []
