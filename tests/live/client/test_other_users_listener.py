"""Tokens that programs send to this machine's loopback: another user's program on the port gets none."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nqrust import loopback
from nqrust.cli.connection import ManagerError
from nqrust.cli.vm.console import attach
from nqrust.cli.vm.guest_session import SessionFailed, connected
from nqrust.client import calls
from nqrust.client.agent import AgentClient, AgentUnreachable
from nqrust.client.manager import AsyncManagerClient, ManagerClient, Refused, Unreachable
from nqrust.host.errors import HostError
from nqrust.host.reach import ask
from nqrust.host.secret import Secret

SOMEBODY = 65534
_LISTENER = """
import socket, sys
listener = socket.create_server((sys.argv[1], 0), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
print(listener.getsockname()[1], flush=True)
while True:
    connection, _ = listener.accept()
    connection.settimeout(3)
    print(connection.recv(65536), flush=True)
    connection.sendall(b"HTTP/1.1 503 Away\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
    connection.close()
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="starts a program of another user")


@contextmanager
def listener(user: int, address: str = "127.0.0.1") -> Iterator[tuple[int, subprocess.Popen[str]]]:
    argv = ("/usr/bin/python3", "-I", "-c", _LISTENER, address)
    program = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, user=user, group=user, extra_groups=[], cwd="/")
    try:
        assert program.stdout is not None
        yield int(program.stdout.readline()), program
    finally:
        program.kill()
        program.wait()


def heard(program: subprocess.Popen[str]) -> str:
    program.kill()
    return program.communicate()[0]


@needs_root
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_command_line_sends_no_token_to_another_users_program(name: str) -> None:
    with listener(SOMEBODY) as (port, program):
        with (
            ManagerClient(f"http://{name}:{port}", token="nqr_secret") as manager,
            pytest.raises(Unreachable, match="user 65534"),
        ):
            manager.send(calls.me())
        assert "nqr_secret" not in heard(program)


@needs_root
async def test_web_ui_sends_no_password_to_another_users_program() -> None:
    with listener(SOMEBODY) as (port, program):
        async with AsyncManagerClient(f"http://127.0.0.1:{port}") as manager:
            with pytest.raises(Unreachable, match="user 65534"):
                await manager.login("admin", "the password")
        assert "the password" not in heard(program)


@needs_root
async def test_manager_sends_no_command_token_to_another_users_program() -> None:
    with listener(SOMEBODY) as (port, program):
        async with AgentClient(f"http://127.0.0.1:{port}", "nqr_command") as agent:
            with pytest.raises(AgentUnreachable, match="user 65534"):
                await agent.inventory()
            with pytest.raises(AgentUnreachable, match="user 65534"):
                async with agent.connect_console("a"):
                    pass
        assert "nqr_command" not in heard(program)


@needs_root
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_consoles_send_no_ticket_to_another_users_program(name: str) -> None:
    with listener(SOMEBODY) as (port, program):
        url = f"ws://{name}:{port}/v1/vms/web1/console?ticket=nqr_ticket"
        with pytest.raises(ManagerError, match="user 65534"):
            attach(url, "web1")
        with pytest.raises(SessionFailed, match="user 65534"), connected(url, "web1", None):
            pass
        with pytest.raises(loopback.Impostor, match="user 65534"):  # the web UI's
            loopback.connect(url)
        assert "nqr_ticket" not in heard(program)
    assert loopback.connect("wss://127.0.0.1:1/") is None and loopback.connect("ws://192.0.2.1:1/") is None


@needs_root
def test_installer_sends_no_token_to_another_users_program() -> None:
    with listener(SOMEBODY) as (port, program):
        url = f"http://127.0.0.1:{port}/v1/images/tiny"
        with pytest.raises(HostError, match="user 65534"):
            ask("GET", url, {"Authorization": Secret("Bearer nqr_secret")}, 5.0)
        assert "nqr_secret" not in heard(program)


@needs_root
def test_own_and_root_programs_and_sudo_callers_are_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    with listener(0) as (port, program):
        with ManagerClient(f"http://127.0.0.1:{port}", token="nqr_secret") as manager, pytest.raises(Refused, match="Away"):
            manager.send(calls.me())
        assert "nqr_secret" in heard(program)
    with listener(SOMEBODY) as (port, _):
        monkeypatch.setenv("SUDO_UID", str(SOMEBODY))
        loopback.check("127.0.0.1", port, connected=True)


@needs_root
def test_listener_on_all_ipv6_addresses_is_found() -> None:
    with listener(SOMEBODY, "::1") as (port, _), pytest.raises(loopback.Impostor):
        loopback.check("::1", port)


@needs_root
def test_stranger_on_ipv6_keeps_nobody_from_ipv4() -> None:
    with listener(SOMEBODY, "::1") as (port, _), socket.create_server(("0.0.0.0", port)):
        loopback.check("127.0.0.1", port, connected=True)
