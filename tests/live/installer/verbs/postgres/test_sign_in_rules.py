"""An account of the host with the name of the database role gets nothing from a real cluster with its distribution's rules."""

from __future__ import annotations

import glob
import hashlib
import os
import pwd
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from tests.unit.installer.phases.a_host import fit

from nqrust.host.errors import HostError
from nqrust.host.facts import postgres as facts
from nqrust.host.facts.model import PostgresCluster
from nqrust.host.local import LocalHost
from nqrust.host.port import Host
from nqrust.host.secret import Secret
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.step import Conflict, Needed, Satisfied, Step
from nqrust.installer.engine.undo_record import Retain, Undo
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.preflight import local_database
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.postgres.cluster import ClusterChoice
from nqrust.installer.verbs.postgres.database import Database
from nqrust.installer.verbs.postgres.login import TcpLogin
from nqrust.installer.verbs.postgres.role import Role, ScramPassword
from nqrust.installer.verbs.postgres.rules import SignInRules
from nqrust.installer.verbs.postgres.sql import Connection, as_owner, program
from nqrust.installer.verbs.registry import VERBS
from nqrust.installer.verbs.script import whole as script
from nqrust.installer.verbs.script.prelude import PRELUDE

_OWNER, _ACCOUNT = "nobody", "daemon"
"""The cluster's owner, and an account that has the name of the manager's role."""
_DEBIANS = """local all nobody peer
local all all peer
host all all 127.0.0.1/32 scram-sha-256
"""
_FEDORAS = """local all all peer
host all all 127.0.0.1/32 ident
"""
_OLD_DEBIANS = """local all all peer
host all all 127.0.0.1/32 md5
"""
_OPEN = """local all all trust
host all all 127.0.0.1/32 scram-sha-256
"""
PASSWORD = Secret("right")


@dataclass(frozen=True)
class _Fixed(ClusterChoice):
    one: PostgresCluster | None = None

    def find(self, host: Host) -> PostgresCluster | None:
        return self.one


@pytest.fixture(scope="module")
def cluster() -> Iterator[PostgresCluster]:
    binaries = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda path: int(path.split("/")[4]))
    if not binaries or os.geteuid() != 0:
        pytest.skip("needs a PostgreSQL server, and root to run it as another user")
    folder = os.path.dirname(binaries[-1])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="nqr-pg-", dir="/tmp") as place:
        os.chown(place, pwd.getpwnam(_OWNER).pw_uid, -1)
        os.chmod(place, 0o755)
        data = f"{place}/data"

        def run(name: str, *arguments: str) -> None:
            argv = ["runuser", "-u", _OWNER, "--", f"{folder}/{name}", "-D", data, *arguments]
            subprocess.run(argv, check=True, cwd=place, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=60)

        run("initdb", "-U", _OWNER, "--auth=peer", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -k {place} -c fsync=off"
        run("pg_ctl", "-w", "-s", "-l", f"{place}/log", "-o", options, "start")
        try:
            yield PostgresCluster(int(folder.split("/")[4]), "main", port, True, _OWNER, data, place)
        finally:
            run("pg_ctl", "-w", "-s", "-m", "immediate", "stop")


@pytest.fixture(params=[_DEBIANS, _FEDORAS, _OPEN], ids=["debian", "fedora", "open"])
def host(cluster: PostgresCluster, request: pytest.FixtureRequest) -> LocalHost:
    """The machine, where a release of before made role and database."""
    host = LocalHost()
    write_rules(host, cluster, request.param)
    as_owner(host, cluster, f"DROP DATABASE IF EXISTS {_ACCOUNT} WITH (FORCE);")
    as_owner(host, cluster, f"DROP ROLE IF EXISTS {_ACCOUNT};")
    fixed = _Fixed(one=cluster)
    for step in (Role(fixed, _ACCOUNT, PASSWORD), Database(fixed, _ACCOUNT, _ACCOUNT, closed=True)):
        step.apply(host)
    return host


def write_rules(host: LocalHost, cluster: PostgresCluster, text: str) -> None:
    host.write_file(f"{cluster.data_dir}/pg_hba.conf", text.encode(), mode=0o600, owner=_OWNER)
    as_owner(host, cluster, "SELECT pg_reload_conf();")


def argv(host: LocalHost, cluster: PostgresCluster, database: str) -> list[str]:
    where = ["-h", cluster.socket_dir, "-p", str(cluster.port), "-U", _ACCOUNT, "-d", database]
    return ["runuser", "-u", _ACCOUNT, "--", program(host), "-X", "-A", "-t", "-q", "-w", *where]


def gets_in(host: LocalHost, cluster: PostgresCluster, database: str) -> bool:
    sql = "SELECT current_user;"
    done = subprocess.run(argv(host, cluster, database), input=sql, text=True, timeout=60, capture_output=True, cwd="/")
    return done.stdout.strip() == _ACCOUNT


def test_an_account_with_the_name_of_the_role(host: LocalHost, cluster: PostgresCluster) -> None:
    fixed = _Fixed(one=cluster)
    hba = f"{cluster.data_dir}/pg_hba.conf"
    before = host.read_text(hba)
    step = SignInRules(fixed, _ACCOUNT)
    assert gets_in(host, cluster, _ACCOUNT) and gets_in(host, cluster, "postgres"), "the test can see a hole"
    with subprocess.Popen(argv(host, cluster, "postgres"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/") as earlier:
        assert earlier.stdin is not None and earlier.stdout is not None
        earlier.stdin.write(b"SELECT 1;\n")
        earlier.stdin.flush()
        assert earlier.stdout.readline() == b"1\n"
        assert isinstance(step.inspect(host), Needed)
        undo = step.prepare(host).undo
        step.apply(host)
        step.verify(host)
        said, _ = earlier.communicate(b"SELECT 2;\n", timeout=60)
        assert said == b"", "a session that began before"
    assert not gets_in(host, cluster, _ACCOUNT)
    assert not gets_in(host, cluster, "postgres"), "there it could give itself a password"
    login = Connection("127.0.0.1", cluster.port, _ACCOUNT, _ACCOUNT, PASSWORD)
    TcpLogin(fixed, login).verify(host)
    assert isinstance(step.inspect(host), Satisfied)
    for record in reversed(undo):
        VERBS.revert(UndoContext(host, Originals(host, "/nowhere")), record)
    assert host.read_text(hba) == before


# --- a role of before, whose password is kept as md5 (the default of PostgreSQL 13)


@pytest.fixture(params=[_OLD_DEBIANS, _FEDORAS, _OPEN], ids=["debian 11", "fedora", "open"])
def md5(cluster: PostgresCluster, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> LocalHost:
    host = LocalHost()
    monkeypatch.setattr(facts, "probe", lambda host: [cluster])
    write_rules(host, cluster, request.param)
    as_owner(host, cluster, f"DROP DATABASE IF EXISTS {_ACCOUNT} WITH (FORCE);")
    as_owner(host, cluster, f"DROP ROLE IF EXISTS {_ACCOUNT};")
    digest = hashlib.md5((PASSWORD.reveal() + _ACCOUNT).encode()).hexdigest()
    as_owner(host, cluster, f"CREATE ROLE {_ACCOUNT} LOGIN PASSWORD 'md5{digest}';")
    as_owner(host, cluster, f"CREATE DATABASE {_ACCOUNT} OWNER {_ACCOUNT};")
    return host


def steps_of(cluster: PostgresCluster) -> tuple[Step, ...]:
    fixed = _Fixed(one=cluster)
    login = Connection("127.0.0.1", cluster.port, _ACCOUNT, _ACCOUNT, PASSWORD)
    return (
        ScramPassword(fixed, _ACCOUNT, PASSWORD),
        SignInRules(fixed, _ACCOUNT),
        Role(fixed, _ACCOUNT, PASSWORD),
        Database(fixed, _ACCOUNT, _ACCOUNT, closed=True),
        TcpLogin(fixed, login),
    )


def signs_in(host: LocalHost, cluster: PostgresCluster, password: str = PASSWORD.reveal()) -> bool:
    login = Connection("127.0.0.1", cluster.port, _ACCOUNT, _ACCOUNT, Secret(password))
    return (
        subprocess.run(
            [program(host), "-X", "-w", "-c", "SELECT 1"],
            env={**os.environ, **{name: str(getattr(v, "reveal", lambda v=v: v)()) for name, v in login.environment().items()}},
            cwd="/",
            capture_output=True,
            timeout=60,
        ).returncode
        == 0
    )


def converge(host: LocalHost, cluster: PostgresCluster) -> list[Undo]:
    may_already = signs_in(host, cluster)
    undo: list[Undo] = []
    for step in steps_of(cluster):
        if isinstance(step.inspect(host), Needed):
            undo += step.prepare(host).undo
            step.apply(host)
            step.verify(host)
        if step.kind in (ScramPassword.kind, SignInRules.kind) and may_already:
            assert signs_in(host, cluster), f"an interruption after {step.id} would lock the manager out"
    return undo


def take_back(host: LocalHost, records: list[Undo], way: str) -> None:
    for record in reversed(records):
        if way == "python":
            VERBS.revert(UndoContext(host, Originals(host, "/nowhere")), record)
            continue
        calls = "\n".join(script.lines_of(UndoContext(host, Originals(host, "/nowhere")), record))
        text = PRELUDE.partition("cd / || exit 1\n")[2] + f'{calls}\necho "failed: $failed$missed"\n'
        done = subprocess.run(["sh", "-c", text], check=True, capture_output=True, text=True, cwd="/", timeout=60)
        assert done.stdout == "failed: 0\n", done.stdout + done.stderr


@pytest.mark.parametrize("way", ["python", "shell"])
def test_a_role_with_an_md5_password(way: str, md5: LocalHost, cluster: PostgresCluster) -> None:
    before = md5.read_text(f"{cluster.data_dir}/pg_hba.conf")
    could = signs_in(md5, cluster)
    records = converge(md5, cluster)
    assert signs_in(md5, cluster) and not signs_in(md5, cluster, "wrong") and not gets_in(md5, cluster, "postgres")
    assert converge(md5, cluster) == []
    take_back(md5, records, way)
    assert md5.read_text(f"{cluster.data_dir}/pg_hba.conf") == before
    assert signs_in(md5, cluster) or not could, "without a reload by hand"
    assert gets_in(md5, cluster, "postgres"), "the server follows the file of before"


def test_rules_of_an_administrator_stay_before_those_for_tcp(host: LocalHost, cluster: PostgresCluster) -> None:
    write_rules(host, cluster, f"local all all peer\nhost postgres {_ACCOUNT} 127.0.0.1/32 reject\n")
    converge(host, cluster)
    assert signs_in(host, cluster), "refused until then"
    text = host.read_text(f"{cluster.data_dir}/pg_hba.conf")
    assert f'host "{_ACCOUNT}" "{_ACCOUNT}" 127.0.0.1/32 scram-sha-256' in text and 'host all "' not in text
    write_rules(host, cluster, _DEBIANS)
    converge(host, cluster)
    assert 'host all "' not in host.read_text(f"{cluster.data_dir}/pg_hba.conf"), "Debian's lines allow it"


def answer_to(cluster: PostgresCluster, source: str) -> int:
    """Return the server's first answer to a sign-in from this address: 0 lets it in, 10 asks for SCRAM (PostgreSQL, Message
    Formats)."""
    words = f"user\0{_ACCOUNT}\0database\0{_ACCOUNT}\0\0".encode()
    with socket.create_connection(("127.0.0.1", cluster.port), 60, source_address=(source, 0)) as there:
        there.sendall(struct.pack("!ii", 8 + len(words), 3 << 16) + words)
        kind, _, answer = struct.unpack("!cii", there.recv(9, socket.MSG_WAITALL))
        assert kind == b"R", there.recv(1000)
        return int(answer)


@pytest.mark.parametrize("address", ["127.0.0.0/8", "127.0.0.2/32", "samenet", "all", "0.0.0.0/0"])
def test_an_address_of_the_host_from_which_nobody_asked_for_a_password(
    host: LocalHost, cluster: PostgresCluster, address: str
) -> None:
    write_rules(host, cluster, f"local all all peer\nhost all all {address} trust\nhost all all ::/0 scram-sha-256\n")
    assert answer_to(cluster, "127.0.0.2") == 0, "the test can see a hole"
    step = SignInRules(_Fixed(one=cluster), _ACCOUNT)
    step.apply(host)
    step.verify(host)
    assert answer_to(cluster, "127.0.0.2") == 10


# --- roles that others sign in as


def test_the_role_of_the_owner_or_a_superuser_is_refused(host: LocalHost, cluster: PostgresCluster) -> None:
    """The owner reaches the cluster through the socket only, and nqr as the owner."""
    before = host.read_text(f"{cluster.data_dir}/pg_hba.conf")
    as_owner(host, cluster, f"ALTER ROLE {_ACCOUNT} SUPERUSER;")
    try:
        for role, says in ((_OWNER, "owns"), (_ACCOUNT, "superuser")):
            found = SignInRules(_Fixed(one=cluster), role).inspect(host)
            assert isinstance(found, Conflict) and found.code == "NQR-DB-115" and says in found.why
    finally:
        as_owner(host, cluster, f"ALTER ROLE {_ACCOUNT} NOSUPERUSER;")
    assert host.read_text(f"{cluster.data_dir}/pg_hba.conf") == before
    stopped = _Fixed(one=replace(cluster, online=False))
    assert isinstance(SignInRules(stopped, _OWNER).inspect(host), Conflict)


def test_a_foreign_role_is_refused_before_the_rules_end_its_sessions(host: LocalHost, cluster: PostgresCluster) -> None:
    as_owner(host, cluster, f"COMMENT ON ROLE {_ACCOUNT} IS NULL;")
    first = ScramPassword(_Fixed(one=cluster), _ACCOUNT, Secret("another")).inspect(host)
    assert isinstance(first, Conflict) and first.code == "NQR-DB-103"
    as_owner(host, cluster, f"ALTER ROLE {_ACCOUNT} PASSWORD NULL;")
    assert isinstance(ScramPassword(_Fixed(one=cluster), _ACCOUNT, PASSWORD).inspect(host), Conflict)


def test_a_role_of_before_nqr_gets_its_socket_back_at_an_uninstall(host: LocalHost, cluster: PostgresCluster) -> None:
    step = SignInRules(_Fixed(one=cluster), _ACCOUNT)
    assert [undo.retain for undo in step.prepare(host).undo] == [Retain.database], "nqr made the role"
    as_owner(host, cluster, f"COMMENT ON ROLE {_ACCOUNT} IS NULL;")
    assert [undo.retain for undo in step.prepare(host).undo] == [Retain.nothing]


def test_preflight_says_that_others_lose_the_socket(
    host: LocalHost, cluster: PostgresCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "probe", lambda host: [cluster])

    def said(password: Secret | None = PASSWORD, **given: object) -> list[str]:
        settings = Settings.model_validate({"database": {"user": _ACCOUNT, **given}})
        found = local_database.checks(settings, fit(), host, password)
        return [f"{one.severity.value} {one.code}" for one in found]

    assert said() == [], "nqr made the role"
    as_owner(host, cluster, f"COMMENT ON ROLE {_ACCOUNT} IS NULL;")
    assert said() == ["warning NQR-DB-116"]
    assert said(None) == said(Secret("another")) == [], "the role is refused later"
    assert said(user="nexus") == said(type="remote", host="db.example") == []
    SignInRules(_Fixed(one=cluster), _ACCOUNT).apply(host)
    assert said() == [], "nothing more will change"


@pytest.mark.parametrize("way", ["python", "shell"])
def test_rules_that_lock_the_owner_out_are_taken_back(way: str, md5: LocalHost, cluster: PostgresCluster) -> None:
    hba = f"{cluster.data_dir}/pg_hba.conf"
    before = md5.read_text(hba)
    (record,) = SignInRules(_Fixed(one=cluster), _ACCOUNT).prepare(md5).undo
    marker = record.args["marker"]
    write_rules(md5, cluster, f"# BEGIN {marker}\nlocal all all reject\n# END {marker}\n{before}")
    with pytest.raises(HostError):
        as_owner(md5, cluster, "SELECT 1;")
    take_back(md5, [record], way)
    assert md5.read_text(hba) == before
    for _ in range(50):  # the server follows a signal when it gets to it
        if gets_in(md5, cluster, "postgres"):
            break
        time.sleep(0.1)
    assert as_owner(md5, cluster, "SELECT 1;") == "1"


# --- a file that the server does not read, or not yet


def test_a_fault_elsewhere_in_the_file_is_named(host: LocalHost, cluster: PostgresCluster) -> None:
    step = SignInRules(_Fixed(one=cluster), _ACCOUNT)
    hba = f"{cluster.data_dir}/pg_hba.conf"
    host.write_file(hba, (_DEBIANS + "host all all 10.0.0.0/8 scram-sha256\n").encode(), mode=0o600, owner=_OWNER)
    found = step.inspect(host)
    assert isinstance(found, Conflict) and found.code == "NQR-DB-114"
    assert f"{hba}, line 4: " in found.why and "scram-sha256" in found.why


def test_rules_that_the_server_has_not_read_yet(host: LocalHost, cluster: PostgresCluster) -> None:
    """As after a run that ended between the two."""
    step = SignInRules(_Fixed(one=cluster), _ACCOUNT)
    hba = f"{cluster.data_dir}/pg_hba.conf"
    step.apply(host)
    wanted = host.read_text(hba)
    write_rules(host, cluster, _DEBIANS)
    time.sleep(1.1)  # the server knows whole seconds only
    host.write_file(hba, wanted.encode(), mode=0o600, owner=_OWNER)
    assert gets_in(host, cluster, "postgres")
    assert isinstance(step.inspect(host), Needed)
    step.apply(host)
    step.verify(host)
    assert not gets_in(host, cluster, "postgres")


def test_a_file_behind_a_link(host: LocalHost, cluster: PostgresCluster) -> None:
    hba, managed = f"{cluster.data_dir}/pg_hba.conf", f"{cluster.data_dir}/managed.conf"
    os.rename(hba, managed)
    os.symlink("managed.conf", hba)
    try:
        step = SignInRules(_Fixed(one=cluster), _ACCOUNT)
        if isinstance(found := step.inspect(host), Conflict):
            pytest.fail(found.why)
        step.apply(host)
        step.verify(host)
        assert os.path.islink(hba) and "reject" in host.read_text(managed) and not gets_in(host, cluster, "postgres")
        os.chmod(managed, 0o644)
        os.chown(managed, pwd.getpwnam(_ACCOUNT).pw_uid, -1)
        found = step.inspect(host)
        assert isinstance(found, Conflict) and found.code == "NQR-DB-113" and _ACCOUNT in found.why
    finally:
        os.remove(hba)
        os.rename(managed, hba)


def test_a_server_of_another_user_is_not_asked(host: LocalHost, cluster: PostgresCluster) -> None:
    as_owner(host, cluster, "SELECT 1;")
    with pytest.raises(HostError, match="requirepeer"):
        as_owner(host, replace(cluster, owner=_ACCOUNT), "SELECT 1;")
