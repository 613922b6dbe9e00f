"""A user of the machine listens where PostgreSQL would, such as while it restarts, and asks for the password in clear text."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nqrust.host.errors import HostError
from nqrust.host.local import LocalHost
from nqrust.host.secret import Secret
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.platform.migrate import Migrate
from nqrust.installer.preflight.reach import remote_database
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.postgres.sql import Connection

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to listen as another user")
_PERSON, _SERVICE = 54_321, 999
_LISTENS = """
import os, socket, struct, sys
os.setuid(int(sys.argv[1]))
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
while True:
    peer, _ = server.accept()
    said = peer.recv(4096)
    while len(said) == 8 or said[4:7] == b"\\x04\\xd2\\x16":  # it asks for TLS or GSSAPI
        peer.sendall(b"N")
        said = peer.recv(4096)
    peer.sendall(b"R" + struct.pack("!II", 8, 3))  # AuthenticationCleartextPassword
    print(peer.recv(4096), flush=True)
    peer.close()
"""


@contextmanager
def listener(user: int) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    with subprocess.Popen([sys.executable, "-c", _LISTENS, str(user)], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        try:
            yield int(program.stdout.readline()), program
        finally:
            program.kill()


def login(port: int) -> str:
    with pytest.raises(HostError) as caught:
        Connection("127.0.0.1", port, "nexus", "nexus", Secret("the-password")).run(LocalHost(), "SELECT 1;")
    return str(caught.value)


def test_nqr_gives_no_password_to_the_program_of_a_person() -> None:
    with listener(_PERSON) as (port, program):
        assert f"a program of user {_PERSON} listens at 127.0.0.1:{port}" in login(port)
        program.kill()
        assert program.stdout is not None and "the-password" not in program.stdout.read()


def test_preflight_gives_no_password_to_the_program_of_a_person_either() -> None:
    with listener(_PERSON) as (port, program):
        place = {"type": "remote", "host": "127.0.0.1", "port": port}
        (found,) = remote_database(Settings.model_validate({"database": place}), Secret("the-password"))
        assert found.code == "NQR-DB-250" and f"user {_PERSON}" in found.what
        program.kill()
        assert program.stdout is not None and "the-password" not in program.stdout.read()


def test_a_dump_gives_no_password_to_the_program_of_a_person(tmp_path: Path) -> None:
    with listener(_PERSON) as (port, program):
        there = Connection("127.0.0.1", port, "nexus", "nexus", Secret("the-password"))
        with pytest.raises(StepFailed, match=f"user {_PERSON}"):
            Migrate((), "1.0", "/nowhere", there, str(tmp_path))._dump(LocalHost(), str(tmp_path / "before.dump"))
        program.kill()
        assert program.stdout is not None and "the-password" not in program.stdout.read()


def test_a_service_of_the_system_may_be_a_server() -> None:
    with listener(_SERVICE) as (port, program):
        login(port)
        assert program.stdout is not None and "the-password" in program.stdout.readline(), "the test can see a hole"
