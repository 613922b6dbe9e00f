"""Releases from elsewhere: installed, proven, run again, and taken out. Upstream's form comes from an address and from a folder,
and this project's form from a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.fakes.standin import release
from tests.fakes.web import Served, serve
from tests.hosts import product
from tests.hosts.machine import Fingerprint, Machine, TestNetwork
from tests.hosts.product import CONFIG, document, fetch, nqr

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(2400)]

NODE, KEY, FOLDER, OWN = "/root/node.tar.gz", "/root/release.pub", "/root/releases/v0.4.2", "/var/tmp/own"
MANAGER, AGENT, UI = "http://127.0.0.1:18080", "http://127.0.0.1:19090", "http://127.0.0.1:3000"


@dataclass
class Published:
    """A host, and the release on a server that it reaches over the network."""

    host: Machine
    served: Served
    before: Fingerprint

    @property
    def options(self) -> tuple[str, ...]:
        return ("--release", f"{self.served.url}/v0.4.2", "--release-key", KEY, "--non-interactive")

    def install(self) -> str:
        return product.bootstrap(self.host, *self.options, env={"NQR_NODE_ARCHIVE": NODE, "no_proxy": "*"}).stdout


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    folder = tmp_path_factory.mktemp("releases")
    key = Ed25519PrivateKey.generate()
    release.publish(folder / "v0.4.2", key)
    node = folder / "node.tar.gz"
    release.node_archive(node)
    with TestNetwork() as network, Machine(network=network) as host, serve(folder, network.gateway) as served:
        product.clone(host)
        host.push(node, NODE)
        host.write(KEY, release.public(key))
        host.push(folder / "v0.4.2", FOLDER)
        yield Published(host, served, host.fingerprint())


def said_by(host: Machine, url: str) -> Any:
    status, body = fetch(host, url)
    assert status == 200, body
    return json.loads(body)


def sudo(host: Machine, *words: str) -> int:
    """Exit code of a command that the manager itself runs through sudo, inside its unit."""
    script = (
        "import sys,urllib.request as r\n"
        f"a=r.build_opener(r.ProxyHandler({{}})).open(r.Request('{MANAGER}/standin/sudo',data='\\n'.join(sys.argv[1:]).encode()),timeout=20)\n"
        "print(a.read().decode())"
    )
    said = host.run(["python3", "-c", script, *words]).stdout
    return int(said.splitlines()[0])


def test_it_is_installed_and_runs(published: Published) -> None:
    host, said = published.host, published.install()
    assert "Not proven here: canary" in said and "Not proven here: tls" in said, said
    assert said_by(host, f"{MANAGER}/health")["version"] == "0.4.2"
    assert fetch(host, f"{AGENT}/agent/v1/health")[0] == 200 and fetch(host, f"{AGENT}/health")[0] == 404
    status, page = fetch(host, f"{UI}/")
    assert status == 200 and f"{MANAGER} {MANAGER}/v1" in page
    assert host.run(["readlink", "-f", "/opt/nqrust-microvm/ui"]).stdout.strip() == "/opt/nqrust-microvm/releases/0.4.2/ui"
    assert host.exists("/srv/images/alpine.ext4") and host.exists("/srv/images/vmlinux-6.1.bin")


def test_its_agent_has_registered_with_an_address_that_the_manager_reaches(published: Published) -> None:
    host = published.host
    found = product.eventually("the agent registers", lambda: said_by(host, f"{MANAGER}/v1/hosts"))
    assert [one["addr"] for one in found] == [AGENT] and found[0]["run_dir"] == "/srv/fc" and found[0]["bridge"] == "fcbr0"


def test_its_manager_migrated_the_database_that_it_owns(published: Published) -> None:
    query = "SELECT rolcreaterole FROM pg_roles WHERE rolname = 'nexus'; SELECT count(*) FROM _sqlx_migrations;"
    said = published.host.run(["runuser", "-u", "postgres", "--", "psql", "-At", "nexus", "-c", query]).stdout.split()
    assert said == ["t", "1"]


def test_its_manager_becomes_root_within_bounds(published: Published) -> None:
    host = published.host
    host.run(["visudo", "-c"])
    assert sudo(host, "mkdir", "-p", "/srv/fc/vms/a/etc") == 0
    assert sudo(host, "touch", "/srv/fc/vms/a/etc/shadow") == 0 and sudo(host, "chmod", "0600", "/srv/fc/vms/a/etc/shadow") == 0
    assert sudo(host, "cat", "/srv/fc/vms/a/etc/shadow") == 0
    outside = (
        ("cat", "/etc/shadow"),
        ("cp", "/srv/fc/vms/a/etc/shadow", "/etc/sudoers.d/x"),
        ("cp", "/etc/shadow", "/srv/fc/vms/a/x"),
        ("tee", "/srv/fc/vms/../../../etc/x"),
        ("tee", "/srv/fc/vms/a/x", "/etc/x"),
        ("chmod", "4755", "/srv/fc/vms/a/etc/shadow"),
        ("mount", "-o", "bind", "/etc", "/srv/fc/vms/a/etc"),
        ("dd", "if=/srv/fc/vms/a/etc/shadow", "of=/dev/sda"),
        ("sh", "-c", "id"),
    )
    assert [words for words in outside if sudo(host, *words) == 0] == []
    assert not host.exists("/etc/x") and not host.exists("/etc/sudoers.d/x")
    host.run(["rm", "-r", "/srv/fc/vms/a"])


def test_its_files_hold_what_its_programs_read_and_no_more(published: Published) -> None:
    host = published.host
    manager = host.read(f"{CONFIG}/manager.env")
    assert "MANAGER_STORAGE_ROOT=/srv/fc/vms\n" in manager and "MANAGER_BOOTSTRAP_FILE" not in manager
    assert host.run(["stat", "-c", "%a %U:%G", f"{CONFIG}/manager.env"]).stdout.strip() == "640 root:nqrust"
    names = host.run(["ls", CONFIG]).stdout.split()
    assert names == ["agent.env", "config.yaml", "dnsmasq.conf", "manager.env", "ui.env"]


def test_verify_and_status_need_no_server(published: Published) -> None:
    host = published.host
    listed, aside = published.served.folder / "v0.4.2" / "checksums.txt", published.served.folder / "checksums.txt"
    listed.rename(aside)
    try:
        assert nqr(host, "verify").code == 0
        assert document(host, "status")["version"] == "0.4.2"
        assert nqr(host, "services", "status").code == 0
    finally:
        aside.rename(listed)


def test_the_same_command_again_changes_nothing(published: Published) -> None:
    assert "(0 changed" in published.install()
    assert "(0 changed" in nqr(published.host, "install", "--non-interactive", env={"no_proxy": "*"}).stdout, "it is remembered"


def test_uninstall_leaves_nothing(published: Published) -> None:
    host = published.host
    nqr(host, "uninstall", "--purge-data", "--drop-database", "--non-interactive", timeout=600)
    assert "\n".join(published.before.diff(host.fingerprint())) == ""


def test_a_folder_serves_as_well(published: Published) -> None:
    host = published.host
    product.bootstrap(host, "--release", FOLDER, "--mode", "minimal", "--non-interactive")
    assert said_by(host, f"{MANAGER}/health")["version"] == "0.4.2"
    assert nqr(host, "verify").code == 0
    assert "(0 changed" in nqr(host, "install", "--non-interactive").stdout
    publish = ["/opt/nqrust-microvm/installer/venv/bin/python", f"{product.CLONE}/scripts/publish_release.py"]
    host.run([*publish, "/opt/nqrust-microvm/installer/bundle", OWN])
    nqr(host, "uninstall", "--purge-data", "--drop-database", "--non-interactive", timeout=600)
    published_own = host.run(["ls", OWN]).stdout.split()
    assert {"release.json", "checksums.txt", "guest-agent"} <= set(published_own)
    assert "\n".join(published.before.diff(host.fingerprint())) == ""


def test_a_published_release_of_this_project_is_installed_like_a_built_one(published: Published) -> None:
    """The test before has published it."""
    host = published.host
    said = product.bootstrap(host, "--release", OWN, "--mode", "minimal", "--non-interactive").stdout
    assert "Not proven here: canary" not in said, said
    product.create_vm(host, "web1")
    assert "(0 changed" in nqr(host, "install", "--non-interactive").stdout
    kept = json.loads(host.read("/opt/nqrust-microvm/installer/bundle/release.json"))
    assert kept["form"] == "bundled" and all(one["url"].startswith(f"{OWN}/") for one in kept["artifacts"])
    nqr(host, "uninstall", "--purge-data", "--drop-database", "--non-interactive", timeout=600)
    assert "\n".join(published.before.diff(host.fingerprint())) == ""
