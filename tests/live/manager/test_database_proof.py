"""The database on loopback proves itself: another user may listen on its port while it is away."""

from __future__ import annotations

import asyncio
import os
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from nqrust import loopback
from nqrust.manager.errors import DatabaseAway
from nqrust.manager.settings import from_environment
from nqrust.manager.store.database import Database
from nqrust.manager.store.migrate import migrate

CLEAR_TEXT, NO_PASSWORD = 3, 0  # AuthenticationCleartextPassword, AuthenticationOk (PostgreSQL documentation, 55.7)


@asynccontextmanager
async def impostor(asks: int) -> AsyncIterator[tuple[int, bytearray]]:
    heard = bytearray()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        message = await reader.read(4096)
        if len(message) == 8 or message[4:8] in (b"\x04\xd2\x16/", b"\x04\xd2\x160"):  # SSLRequest, GSSENCRequest
            writer.write(b"N")
            await reader.read(4096)
        writer.write(b"R" + struct.pack("!II", 8, asks))
        heard.extend(await reader.read(4096))
        writer.close()

    async with await asyncio.start_server(one, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], heard


@pytest.mark.parametrize("place", ["url", "file"])
@pytest.mark.parametrize("asks", [CLEAR_TEXT, NO_PASSWORD])
async def test_manager_gives_an_impostor_no_password(tmp_path: Path, asks: int, place: str) -> None:
    file = tmp_path / "password"
    file.write_text("the-password\n")
    async with impostor(asks) as (port, heard):
        at = f"127.0.0.1:{port}/nexus"
        env = {
            "url": {"DATABASE_URL": f"postgresql://nexus:the-password@{at}"},
            "file": {"DATABASE_URL": f"postgresql://nexus@{at}", "DATABASE_PASSWORD_FILE": str(file)},
        }[place]
        settings = from_environment(env)
        database = Database(settings.sqlalchemy_url, password_file=settings.database_password_file)
        with pytest.raises(psycopg.OperationalError, match="scram-sha-256"):
            await database.alone("test")
        with pytest.raises(OperationalError, match="scram-sha-256"):
            async with database.engine.connect():
                pass
        assert b"the-password" not in heard


_PASSES_ON = """
import os, socket, sys, threading
os.setuid(54_321)
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
def copy(one, other):
    while said := one.recv(65536):
        other.sendall(said)
    other.shutdown(socket.SHUT_WR)
while True:
    peer, _ = server.accept()
    real = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    for ends in ((peer, real), (real, peer)):
        threading.Thread(target=copy, args=ends, daemon=True).start()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to listen as another user")
async def test_manager_signs_in_through_no_program_of_a_person(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL starts without an address that is taken if it has another. Who took it could pass on the manager's sign-in, then
    speak in its name."""
    port = urlsplit(database_url).port
    argv = [sys.executable, "-c", _PASSES_ON, str(port)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as person:
        assert person.stdout is not None
        settings = from_environment({"DATABASE_URL": database_url.replace(f":{port}/", f":{int(person.stdout.readline())}/")})
        database = Database(settings.sqlalchemy_url)
        with pytest.raises(psycopg.OperationalError, match="a program of user 54321"):
            await database.alone("test")
        assert not await database.ping()
        with pytest.raises(DatabaseAway, match="a program of user 54321"):
            migrate(settings.sqlalchemy_url, wait_seconds=0)
        monkeypatch.setattr(loopback, "is_person", lambda _: False)
        assert await database.ping(), "the test can see a hole"
        await database.engine.dispose()
        person.kill()


async def test_real_database_proves_itself(database_url: str) -> None:
    url = from_environment({"DATABASE_URL": database_url}).database_url.reveal()
    assert "require_auth=scram-sha-256" in url
    async with await psycopg.AsyncConnection.connect(url, connect_timeout=5) as connection:
        assert await (await connection.execute("SELECT 1")).fetchone() == (1,)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@db.example.com/n",
        "postgresql://u@127.0.0.1/n",
        "postgresql:///n?host=/run/postgresql",
        "postgresql://u:p@127.0.0.1/n?require_auth=none",
    ],
)
def test_other_databases_are_as_the_url_says(url: str) -> None:
    assert from_environment({"DATABASE_URL": url}).database_url.reveal() == url
