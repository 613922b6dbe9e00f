"""nqr vm ssh: the known host keys, the way to the VM, and its errors."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.unit.installer.effects import fake_manager
from tests.unit.installer.effects.fake_manager import FakeManager
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from nqrust.cli.__main__ import run
from nqrust.cli.vm import guest_session, ssh
from nqrust.cli.vm.guest_session import SessionFailed
from nqrust.contract.guest import Kind, message
from nqrust.contract.vms import Vm

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGtra2tra2tra2tra2tra2tra2tra2tra2tra2tra2tr"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The command lines of ssh(1). The VM answers on port 22, and the guest agent tells KEY."""
    seen: list[list[str]] = []
    FakeManager().install(monkeypatch)
    monkeypatch.setenv("NQR_MANAGER_URL", "http://manager.example:1")
    monkeypatch.setenv("NQR_TOKEN", "good")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(ssh.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(ssh.os, "execv", lambda program, argv: seen.append(argv))
    monkeypatch.setattr(ssh.socket, "create_connection", lambda *_: io.StringIO())
    monkeypatch.setattr(ssh, "_host_keys", lambda *_: [KEY])
    return seen


def reach(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(ssh.socket, "create_connection", fail)


def test_known_keys_are_for_this_vm_alone(started: list[list[str]], tmp_path: Path) -> None:
    assert run(["vm", "ssh", "web1"]) == 0
    (argv,) = started
    file = tmp_path / "nqr/known_hosts/nqr-v1"
    assert f"UserKnownHostsFile={file}" in argv and "StrictHostKeyChecking=yes" in argv
    assert file.read_text() == f"nqr-v1 {KEY}\n" and file.stat().st_mode & 0o777 == 0o600
    assert argv[-4:] == ["-l", "root", "--", "10.0.0.10"] and not any("ProxyJump" in word for word in argv)


def test_way_goes_through_the_host_if_this_machine_does_not_reach_the_vm(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    reach(monkeypatch, TimeoutError())
    assert run(["vm", "ssh", "web1", "--", "true"]) == 0
    assert "ProxyJump=h1" in started[0] and started[0][-1] == "true"


def test_vm_without_an_ssh_server_gets_the_shell_as_cure(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reach(monkeypatch, ConnectionRefusedError())
    assert run(["vm", "ssh", "web1"]) == 1
    said = capsys.readouterr().err
    assert "NQR-IMG-063" in said and "nqr vm shell web1" in said and not started


def test_unknown_host_keys_are_not_accepted_silently(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()
    FakeManager().install(monkeypatch)
    monkeypatch.setenv("NQR_MANAGER_URL", "http://manager.example:1")
    monkeypatch.setenv("NQR_TOKEN", "good")
    monkeypatch.setattr(ssh.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(ssh.socket, "create_connection", lambda *_: io.StringIO())

    def refuse(*_: Any) -> None:
        raise SessionFailed("NQR-VMM-130", "No guest agent answers.", "Wait.")

    monkeypatch.setattr(ssh, "ticket", refuse)
    assert run(["vm", "ssh", "web1"]) == 1
    assert "NQR-IMG-064" in capsys.readouterr().err


def test_keys_of_a_guest_are_read_as_keys_and_nothing_else() -> None:
    text = f"{KEY} root@web1\n* {KEY}\n@cert-authority * {KEY}\nssh-ed25519 short x\n"
    assert ssh.host_keys(text) == [KEY]


def test_key_for_an_image_without_a_server_gets_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    FakeManager().install(monkeypatch)
    monkeypatch.setenv("NQR_MANAGER_URL", "http://manager.example:1")
    monkeypatch.setenv("NQR_TOKEN", "good")
    words = ["vm", "create", "web1", "--image", "tiny", "--no-wait"]
    for server, keys, warned in ((False, True, True), (None, True, False), (True, True, False), (False, False, False)):
        monkeypatch.setitem(fake_manager.IMAGE["manifest"], "ssh_server", server)
        assert run([*words, *(["--ssh-key", KEY] if keys else [])]) == 0
        assert ("has no SSH server" in capsys.readouterr().err) is warned


@pytest.mark.parametrize("sends", [b"", b"no key\n" * 1000], ids=["nothing", "too much"])
def test_guest_that_does_not_end_does_not_keep_the_user(
    sends: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            connection.recv()
            connection.send(message(Kind.started))
            while sends:
                connection.send(message(Kind.stdout, sends))
                for data in connection:
                    if data[0] == Kind.credit:
                        break
            connection.recv()
            connection.recv()

    with serve(answer, "127.0.0.1", 0, compression=None) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        FakeManager().install(monkeypatch)
        monkeypatch.setenv("NQR_MANAGER_URL", "http://manager.example:1")
        monkeypatch.setenv("NQR_TOKEN", "good")
        monkeypatch.setattr(ssh.shutil, "which", lambda name: f"/usr/bin/{name}")
        monkeypatch.setattr(ssh, "_running", lambda *_: Vm.model_validate(fake_manager.VM))
        monkeypatch.setattr(ssh, "ticket", lambda *_: (f"ws://127.0.0.1:{server.socket.getsockname()[1]}/exec", None))
        monkeypatch.setattr(ssh, "_FOR_KEYS", 1.0)
        monkeypatch.setattr(guest_session, "_CREDIT_AT", 1)
        began = time.monotonic()
        assert run(["vm", "ssh", "web1"]) == 1
        assert time.monotonic() - began < 20 and "NQR-IMG-064" in capsys.readouterr().err
        server.shutdown()
