"""A database on another machine proves itself with a certificate of the authority in `--db-ca`, before it gets the password."""

from __future__ import annotations

import os
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from tests.live.manager.conftest import Cluster

from nqrust.host.errors import HostError
from nqrust.host.local import LocalHost
from nqrust.host.secret import Secret
from nqrust.installer.preflight.findings import Finding
from nqrust.installer.preflight.reach import remote_database
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.postgres.sql import Connection
from nqrust.manager.errors import DatabaseAway
from nqrust.manager.settings import from_environment
from nqrust.manager.store.database import Database
from nqrust.manager.store.migrate import migrate
from nqrust.tls.authority import Authority, new_authority

NAME, PASSWORD = "db.example", "the-password"
RIGHT, OTHER = new_authority("of the database"), new_authority("of somebody")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("authorities")
    found = {"right": folder / "right.crt", "other": folder / "other.crt"}
    found["right"].write_text(RIGHT.certificate)
    found["other"].write_text(OTHER.certificate)
    return {name: str(path) for name, path in found.items()}


@pytest.fixture(scope="module")
def with_tls(cluster: Cluster) -> Iterator[Cluster]:
    """The server, with a certificate for db.example and localhost while this module runs."""
    pair = Authority(RIGHT).issue([NAME, "localhost"])
    owner = os.stat(cluster.data)
    for name, content in (("server.crt", pair.certificate), ("server.key", pair.key)):
        path = Path(cluster.data, name)
        path.write_text(content)
        path.chmod(0o600)
        os.chown(path, owner.st_uid, owner.st_gid)
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET ssl = on")
        connection.execute("SELECT pg_reload_conf()")
    try:
        yield cluster
    finally:
        with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM RESET ssl")
            connection.execute("SELECT pg_reload_conf()")


@contextmanager
def impostor(name: str | None) -> Iterator[tuple[int, bytearray]]:
    """Yield the port of a server that asks for the password in clear text, and what it hears. `name`: in its certificate from the
    other authority; None: it has no TLS."""
    heard = bytearray()
    context = None
    if name is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        pair = Authority(OTHER).issue([name])
        with _file(pair.certificate + pair.key) as path:
            context.load_cert_chain(path)

    def one(peer: socket.socket) -> None:
        with peer:
            if len(said := peer.recv(4096)) == 8 and said.endswith(b"\x04\xd2\x160"):  # GSSENCRequest
                peer.sendall(b"N")
                said = peer.recv(4096)
            if len(said) == 8:  # SSLRequest
                peer.sendall(b"S" if context else b"N")
                peer = context.wrap_socket(peer, server_side=True) if context else peer
                said = peer.recv(4096)
            heard.extend(said)
            if said:
                peer.sendall(b"R" + struct.pack("!II", 8, 3))  # AuthenticationCleartextPassword
                heard.extend(peer.recv(4096))

    def serve() -> None:
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            peer.settimeout(10)
            try:
                one(peer)
            except OSError:  # a refused certificate too
                peer.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1], heard
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(10)


@contextmanager
def _file(content: str) -> Iterator[str]:
    descriptor = os.memfd_create("pem")
    try:
        os.write(descriptor, content.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def database(port: int, ca: str, password: str = PASSWORD, name: str = "postgres", host: str = NAME) -> Database:
    """Return the manager's access with the URL that nqr writes, and the address of the name, which no DNS server knows."""
    query = f"sslmode=verify-full&sslrootcert={ca}" if ca else ""
    url = f"postgresql://nexus:{password}@{host}:{port}/{name}?{query}&hostaddr=127.0.0.1"
    return Database(from_environment({"DATABASE_URL": url}).sqlalchemy_url)


async def refusals(there: Database) -> list[str]:
    """Return how the pool, the connection of the leader and the migration fail."""
    found = []
    with pytest.raises(OperationalError) as pool:
        async with there.engine.connect():
            pass
    with pytest.raises(psycopg.OperationalError) as alone:
        await there.alone("test")
    with pytest.raises(DatabaseAway) as migration:
        migrate(there.engine.url.render_as_string(hide_password=False), wait_seconds=0)
    found += [str(one.value) for one in (pool, alone, migration)]
    await there.engine.dispose()
    return found


async def test_manager_connects_to_the_server_of_the_authority(with_tls: Cluster, files: dict[str, str]) -> None:
    name = with_tls.fresh().rsplit("/", 1)[1]
    there = database(with_tls.port, files["right"], with_tls.password, name)
    encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    async with there.engine.connect() as connection:
        assert await connection.scalar(text(encrypted)) is True
    async with await there.alone("test") as alone:
        assert await (await alone.execute(encrypted)).fetchone() == (True,)
    assert migrate(there.engine.url.render_as_string(hide_password=False), wait_seconds=0)[1]
    await there.engine.dispose()


async def test_manager_refuses_the_server_of_another_authority_or_name(with_tls: Cluster, files: dict[str, str]) -> None:
    found = await refusals(database(with_tls.port, files["other"], with_tls.password))
    assert all("certificate verify failed" in one for one in found), found
    found = await refusals(database(with_tls.port, files["right"], with_tls.password, host="db2.example"))
    assert all("does not match host name" in one for one in found), found


@pytest.mark.parametrize(("name", "why"), [(NAME, "certificate verify failed"), (None, "does not support SSL")])
async def test_manager_sends_no_password_to_a_server_that_proves_nothing(
    files: dict[str, str], name: str | None, why: str
) -> None:
    with impostor(name) as (port, heard):
        found = await refusals(database(port, files["right"]))
        assert all(why in one for one in found) and not heard, found
        with pytest.raises(psycopg.OperationalError):
            await database(port, "").alone("test")
        assert PASSWORD.encode() in heard, "the test can see a hole"


def preflight(port: int, ca: str, password: str = PASSWORD, host: str = NAME) -> list[Finding]:
    place = {"type": "remote", "host": host, "port": port, "name": "postgres"}
    settings = Settings.model_validate({"database": place | ({"ca": ca} if ca else {})})
    return list(remote_database(settings, Secret(password), ca=ca))


def test_preflight_says_the_same(with_tls: Cluster, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")
    assert preflight(with_tls.port, files["right"], with_tls.password) == []
    cases = (("other", NAME, "no valid certificate of"), ("right", "db2.example", "is for another name"))
    for ca, host, what in cases:
        (found,) = preflight(with_tls.port, files[ca], with_tls.password, host)
        assert found.code == "NQR-DB-262" and what in found.what
    assert [one.code for one in preflight(with_tls.port, "", with_tls.password)] == ["NQR-DB-261"]
    wrong = preflight(with_tls.port, files["right"], "wrong")
    assert [one.code for one in wrong] == ["NQR-DB-011"], "a proven server may refuse the password"


@pytest.mark.parametrize(("name", "what"), [(NAME, "no valid certificate of"), (None, "offers no TLS")])
def test_preflight_sends_no_password_either(
    files: dict[str, str], monkeypatch: pytest.MonkeyPatch, name: str | None, what: str
) -> None:
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")
    with impostor(name) as (port, heard):
        (found,) = preflight(port, files["right"])
        assert found.code == "NQR-DB-262" and what in found.what and not heard
        preflight(port, "")
        assert PASSWORD.encode() in heard, "the test can see a hole"


def test_psql_of_nqr_asks_for_the_same_proof(with_tls: Cluster, files: dict[str, str]) -> None:
    def ask(ca: str) -> str:
        login = Connection("localhost", with_tls.port, "postgres", "nexus", Secret(with_tls.password), ca)
        return login.run(LocalHost(), "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid();")

    assert ask(files["right"]) == "t"
    with pytest.raises(HostError, match="certificate verify failed"):
        ask(files["other"])
