"""A manager on one host and an agent on another. The database is in a remote PostgreSQL server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from nqrust.tls import authority, contexts
from nqrust.tls.authority import Authority
from tests.hosts import product, warm
from tests.hosts.machine import Fingerprint, Machine, TestNetwork
from tests.hosts.product import CONFIG, document, eventually, fetch, nqr
from tests.hosts.sniffing import Sniffer, is_tls

pytestmark = pytest.mark.timeout(2400)

PASSWORD = "a-password-of-the-database-people"
DATABASES = authority.new_authority("of the database people")
POSTGRESQL = f"""
set -e
apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends postgresql
runuser -u postgres -- psql -qc "CREATE ROLE nexus LOGIN PASSWORD '{PASSWORD}'" -c 'CREATE DATABASE nexus OWNER nexus'
echo "listen_addresses = '*'" > /etc/postgresql/15/main/conf.d/test.conf
echo "ssl_cert_file = '/etc/postgresql/15/main/db.crt'" >> /etc/postgresql/15/main/conf.d/test.conf
echo "ssl_key_file = '/etc/postgresql/15/main/db.key'" >> /etc/postgresql/15/main/conf.d/test.conf
cp /run/db.crt /run/db.key /etc/postgresql/15/main
chown postgres: /etc/postgresql/15/main/db.*
chmod 600 /etc/postgresql/15/main/db.key
echo 'hostssl nexus nexus 10.77.0.0/16 scram-sha-256' >> /etc/postgresql/15/main/pg_hba.conf
systemctl restart postgresql@15-main
"""


FAKE = """
import socket, ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/run/fake.pem")
server = socket.create_server(("", 18080))
with open("/run/fake.log", "wb", buffering=0) as log:
    while True:
        connection, _ = server.accept()
        connection.settimeout(5)
        try:
            log.write(context.wrap_socket(connection, server_side=True).recv(4096))
        except OSError:
            pass
"""
"""A fake manager: takes connections and keeps what a client says after the handshake."""


@dataclass
class Pair:
    manager: Machine
    agent: Machine
    manager_before: Fingerprint
    agent_before: Fingerprint
    sniffer: Sniffer
    vm: dict[str, Any] = field(default_factory=dict)

    @property
    def as_manager(self) -> tuple[str, ...]:
        return ("--mode", "manager", "--db-type", "remote", "--db-host", self.agent.address, "--db-password-file", "/run/db-password",
                "--db-ca", "/run/db-ca.crt", "--non-interactive")  # fmt: skip

    @property
    def as_agent(self) -> tuple[str, ...]:
        return ("--mode", "agent", "--manager-url", f"https://{self.manager.address}:18080", "--join-token-file", "/run/join-token",
                "--non-interactive")  # fmt: skip


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with TestNetwork() as network, Machine(network=network) as manager, Machine(network=network) as agent:
        made_for = Authority(DATABASES).issue([agent.address])
        agent.write("/run/db.crt", made_for.certificate)
        agent.write("/run/db.key", made_for.key, mode=0o600)
        agent.run(POSTGRESQL, timeout=900)
        for host in (manager, agent):
            product.clone(host)
        manager.write("/run/db-password", "wrong\n", mode=0o600)
        manager.write("/run/db-ca.crt", authority.new_authority("of somebody").certificate)
        agent.write("/run/join-token", "nqr_wrong\n", mode=0o600)
        # (outside of what a fingerprint compares, since the tests rewrite them)
        with Sniffer(network.bridge) as sniffer:
            made = Pair(manager, agent, manager.fingerprint(), agent.fingerprint(), sniffer)
            for host in (manager, agent):
                warm.fill(host)
            yield made


def refused(host: Machine, arguments: tuple[str, ...], code: str) -> str:
    """What it says; nothing but the bootstrap's cache was touched."""
    before = host.mark()
    result = product.bootstrap(host, *arguments, check=False)
    found = [one for one in product.refusal(result) if one.code == code]
    assert result.code == 3 and found and len(found[0].cure) > 10, result.describe()
    assert PASSWORD not in result.stdout + result.stderr
    # The bootstrap's own borrowing of python3-venv leaves notes of the package manager; a running PostgreSQL writes.
    besides = ("/var/lib/dpkg", "/var/lib/apt", "/var/cache", "/var/lib/postgresql")
    assert product.touched(host, before, besides) == []
    return found[0].what


def test_a_database_of_another_authority_is_found_before_anything_is_touched(pair: Pair) -> None:
    assert "/run/db-ca.crt" in refused(pair.manager, pair.as_manager, "NQR-DB-262")
    pair.manager.write("/run/db-ca.crt", DATABASES.certificate)


def test_a_wrong_database_password_is_found_before_anything_is_touched(pair: Pair) -> None:
    assert pair.agent.address in refused(pair.manager, pair.as_manager, "NQR-DB-011")


def test_a_manager_with_a_remote_database(pair: Pair) -> None:
    host = pair.manager
    host.write("/run/db-password", f"{PASSWORD}\n", mode=0o600)
    result = product.bootstrap(host, *pair.as_manager)
    assert PASSWORD not in result.stdout + result.stderr
    assert fetch(host, "http://127.0.0.1:18080/health")[0] == 200
    assert fetch(host, "http://127.0.0.1:3000/")[0] == 200
    assert fetch(host, "http://127.0.0.1:19090/agent/v1/health")[0] == 0, "no agent here"
    assert not host.run("command -v qemu-system-x86_64 dnsmasq; ls -d /usr/lib/postgresql/*/bin/postgres", check=False).stdout, (
        "nothing that a manager does not need"
    )
    assert "fcbr0" not in host.run("ls /sys/class/net").stdout
    tables = pair.agent.run(
        [
            "runuser",
            "-u",
            "postgres",
            "--",
            "psql",
            "-Atd",
            "nexus",
            "-c",
            "select count(*) from pg_tables where tableowner='nexus'",
        ]
    )
    assert int(tables.stdout) > 5
    assert document(host, "host", "ls")["items"] == []
    assert host.run(f"cat {CONFIG}/database-ca.crt").stdout == DATABASES.certificate
    encrypted = "select count(*), bool_and(ssl) from pg_stat_ssl join pg_stat_activity using (pid) where usename = 'nexus'"
    found = pair.agent.run(["runuser", "-u", "postgres", "--", "psql", "-Atd", "nexus", "-c", encrypted]).stdout.strip()
    assert found.endswith("|t") and not found.startswith("0|"), found


def test_a_bad_join_token_is_found_before_anything_is_touched(pair: Pair) -> None:
    refused(pair.agent, pair.as_agent, "NQR-PRE-025")


def test_an_agent_joins_with_a_token(pair: Pair) -> None:
    token = nqr(pair.manager, "host", "token", pair.agent.name).stdout.strip()
    pair.agent.write("/run/join-token", f"{token}\n", mode=0o600)
    product.bootstrap(pair.agent, *pair.as_agent)
    hosts = document(pair.manager, "host", "ls")["items"]
    assert [(host["name"], host["state"]) for host in hosts] == [(pair.agent.name, "online")]
    assert hosts[0]["url"] == f"https://{pair.agent.address}:19090", "an address that the manager reaches"
    assert fetch(pair.agent, "http://127.0.0.1:18080/health")[0] == 0, "no manager there"
    assert fetch(pair.agent, "http://127.0.0.1:3000/")[0] == 0, "no web UI there"


def test_a_vm_lands_on_the_agents_host(pair: Pair) -> None:
    pair.agent.run("mv /srv/images/tiny /srv/images/.away")  # so that it comes from the manager
    pair.vm = product.create_vm(pair.manager, "web1")
    pair.agent.run("mv /srv/images/.away /srv/images/tiny")
    assert pair.vm["host"] == pair.agent.name
    assert product.vm_processes(pair.agent, pair.vm["id"])
    assert product.vm_processes(pair.manager, pair.vm["id"]) == {}
    product.console_prompt(pair.manager, "web1")
    eventually("its guest reports", lambda: document(pair.manager, "vm", "show", "web1")["guest"])


def test_a_sniffer_between_the_hosts_sees_tls_only(pair: Pair) -> None:
    """It has seen a join, heartbeats, a new VM with its image, a console and a guest's report."""
    copied = {"manager": pair.sniffer.to(18080), "agent": pair.sniffer.to(19090)}
    for name, flows in copied.items():
        clear = [(flow, data[:60]) for flow, data in flows if not is_tls(data)]
        assert flows and clear == [], name
    assert pair.sniffer.carried[18080] > 2_000_000, "the image went over the network"
    everything = b"".join(data for flows in copied.values() for _, data in flows)
    join, cli = pair.agent.read("/run/join-token").strip(), pair.manager.read(f"{CONFIG}/cli-token").strip()
    for secret in (join, join.partition(".")[0], cli, "Authorization", "login:", '"boot_id"'):
        assert secret.encode() not in everything


def test_fake_manager_gets_nothing_from_a_joined_agent(pair: Pair) -> None:
    """Another machine takes the manager's address: here, a listener in its place on the manager's host. The agent asks it for
    the authority that may have been rotated meanwhile, which holds nothing secret, and does not believe the answer."""
    pair.manager.run(["systemctl", "stop", "nqrust-manager"])
    fake = Authority(authority.new_authority("another")).issue([contexts.MANAGER_NAME, pair.manager.address])
    pair.manager.write("/run/fake.pem", fake.key + fake.certificate)
    listener = pair.manager.start(["python3", "-c", FAKE])
    refusals = "journalctl -u nqrust-agent --no-pager --since -60s | grep -c CERTIFICATE_VERIFY_FAILED"
    eventually("the agent refuses the fake", lambda: int(pair.agent.run(refusals, check=False).stdout.strip() or 0) >= 2, 60)
    listener.kill()
    heard = pair.manager.read("/run/fake.log")
    assert {line.partition("?")[0] for line in heard.splitlines() if "HTTP/1.1" in line} <= {"GET /v1/authority"}
    credentials = json.loads(pair.agent.read("/var/lib/nqrust-microvm/agent/credentials.json"))
    secrets = [str(value) for name, value in credentials.items() if "token" in name and value]
    assert secrets and not [one for one in ("authorization", *secrets) if one.lower() in heard.lower()]
    pair.manager.run(["systemctl", "start", "nqrust-manager"])
    eventually("the manager is back", lambda: fetch(pair.manager, "http://127.0.0.1:18080/health")[0] == 200, 60)
    eventually("the agent is back", lambda: document(pair.manager, "host", "ls")["items"][0]["state"] == "online", 60)
    assert document(pair.manager, "vm", "show", "web1")["boot_id"] == pair.vm["boot_id"]


def test_the_same_commands_again_change_nothing(pair: Pair) -> None:
    """The join token is already used. The joined agent needs no token."""
    for host, arguments in ((pair.manager, pair.as_manager), (pair.agent, pair.as_agent)):
        mark = host.mark()
        result = product.bootstrap(host, *arguments, timeout=200)
        assert "(0 changed" in result.stdout, result.describe()
        assert product.rewritten(host, mark) == []
    # What the first run was told, a re-run remembers.
    for host in (pair.manager, pair.agent):
        assert "(0 changed" in nqr(host, "install", "--non-interactive").stdout
    assert document(pair.manager, "vm", "show", "web1")["boot_id"] == pair.vm["boot_id"]


def test_uninstall_restores_both_hosts(pair: Pair) -> None:
    nqr(pair.manager, "vm", "rm", "--force", "web1")
    for host in (pair.agent, pair.manager):
        nqr(host, "uninstall", "--purge-data", "--drop-database", "--non-interactive", timeout=900)
    assert "\n".join(pair.agent_before.diff(pair.agent.fingerprint())) == ""
    assert "\n".join(pair.manager_before.diff(pair.manager.fingerprint())) == ""
