"""A host whose only way out is a proxy: the first command of the README, and each later run without the variables.

The proxy asks for a password and looks into TLS, so nothing gets through without the password and the office's certificate.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from nqrust.tls.authority import Authority, new_authority
from tests.hosts import product
from tests.hosts.bases import machine_named
from tests.hosts.machine import Machine, TestNetwork
from tests.hosts.machine.fingerprint import Fingerprint
from tests.hosts.product import document, eventually, nqr
from tests.hosts.proxying import proxy

pytestmark = pytest.mark.timeout(3000)

REACH = "/var/lib/nqrust-microvm/reach.env"
LOCKS = f"'{product.CLONE}/requirements'"
OFFICE = "/etc/ssl/office.pem"
DIRECTLY = "import socket; socket.create_connection(('{0}', {1}), 5)"
ARGUMENTS = """
import os, sys, time
seen = set()
while True:
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                seen.add(open(f"/proc/{entry}/cmdline").read())
            except OSError:
                pass
    with open("/run/arguments.new", "w") as file:
        file.write("\\n".join(sorted(seen)))
    os.replace("/run/arguments.new", "/run/arguments")
    time.sleep(0.1)
"""
"""Collects the arguments of all programs, as any user of the host can."""
HOLDING = """
import os, sys
secret = sys.stdin.read().encode()
for top in ("/etc", "/opt", "/root", "/run", "/srv", "/tmp", "/usr", "/var", "/home"):
    for folder, folders, files in os.walk(top):
        folders[:] = [one for one in folders if not os.path.ismount(os.path.join(folder, one))]
        for name in files:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                if secret in open(path, "rb").read():
                    print(path)
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        if int(pid) != os.getpid() and secret in open(f"/proc/{pid}/environ", "rb").read():
            print("environment of", open(f"/proc/{pid}/comm").read().strip())
    except OSError:
        pass
"""
"""Names what holds the text of standard input: files, and environments of programs."""


@dataclass
class Behind:
    """`asked`: how often the proxy was asked for each host. `password`: of the proxy."""

    host: Machine
    variables: dict[str, str]
    password: str
    asked: Counter[str]
    before: Fingerprint


@pytest.fixture(scope="module", params=["systemd", pytest.param("plain", marks=pytest.mark.matrix)])
def behind(request: pytest.FixtureRequest) -> Iterator[Behind]:
    packages = machine_named("least").tree_packages(request.param)
    office, password = new_authority("Office"), secrets.token_hex(16)
    with (
        TestNetwork(outward=False) as network,
        proxy(network.gateway, credentials=f"alice:{password}", authority=Authority(office)) as made,
        Machine(network=network, systemd=request.param == "systemd", packages=packages) as host,
    ):
        product.clone(host)
        host.write(OFFICE, office.certificate)
        host.run(f"chmod 0644 {OFFICE}; sed -i '/^cert *=/d' /etc/pip.conf")
        url = made.url.replace("//", f"//alice:{password}@")
        variables = {"http_proxy": url, "https_proxy": url, "SSL_CERT_FILE": OFFICE}
        yield Behind(host, variables, password, made.asked, host.fingerprint())


def test_proxy_is_refused_whose_certificates_nobody_trusts(behind: Behind) -> None:
    """The office's proxy looks into TLS. Without the office's certificate the package index cannot be believed."""
    untrusting = {name: value for name, value in behind.variables.items() if name != "SSL_CERT_FILE"}
    refused = product.bootstrap(behind.host, "--non-interactive", env=untrusting, check=False)
    assert refused.code == 1 and "NQR-DEP-90" in refused.stderr, refused.describe()
    assert behind.password not in refused.stdout + refused.stderr
    assert not behind.host.exists(REACH)


def test_host_is_installed_through_its_proxy_alone(behind: Behind) -> None:
    host = behind.host
    watching = host.start(["python3", "-c", ARGUMENTS])
    behind.asked.clear()
    try:
        result = product.bootstrap(host, "--non-interactive", env=behind.variables)
    finally:
        watching.kill()
    assert "FAILED" not in result.stdout and len(behind.asked) > 1, "the archive of packages, and the package index"
    for name in behind.asked:
        assert not host.run(["python3", "-c", DIRECTLY.format(name, 443)], check=False).ok, "there is no other way"
    assert host.run(["stat", "-c", "%a %U", REACH]).stdout.split() == ["600", "root"]
    product.create_vm(host, "web1")
    assert "apt-get" in host.read("/run/arguments") and behind.password not in host.read("/run/arguments")
    assert behind.password not in result.stdout + result.stderr
    only_root_knows(behind)


def only_root_knows(behind: Behind) -> None:
    """The password is in one file that only root reads, in no log, and in the environment of no service."""
    found = behind.host.run(["python3", "-c", HOLDING], input=behind.password.encode()).stdout.splitlines()
    assert found == [REACH]


def test_later_runs_use_the_proxy_without_its_variables(behind: Behind) -> None:
    """The environment of install.sh must be made again, and a package that is gone comes back."""
    host = behind.host
    host.run(f"rm -rf {product.CACHE}/bootstrap {product.CACHE}/wheelhouse")
    before = behind.asked.total()
    assert "(0 changed" in product.bootstrap(host, "--non-interactive").stdout
    assert behind.asked.total() > before, "install.sh asked the package index"
    host.run("dpkg --purge --force-depends screen && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/screen_*")
    before = behind.asked.total()
    nqr(host, "install", "--non-interactive", timeout=600)
    assert behind.asked.total() > before and host.run("command -v screen").ok
    assert nqr(host, "verify", timeout=400).code == 0 and document(host, "vm", "show", "web1")["state"] == "running"


def test_newer_locks_bring_their_packages_through_the_proxy(behind: Behind) -> None:
    """An upgrade of the platform's environment: the lock has another text, and nothing of it is in the cache."""
    host = behind.host
    host.run(f"cd {LOCKS} && for lock in *.txt; do echo '# newer' >>$lock; done; rm -rf {product.CACHE}/*")
    before = Counter(behind.asked)
    upgraded = product.bootstrap(host, "--non-interactive").stdout
    assert "FAILED" not in upgraded and behind.asked.total() > before.total()
    eventually("the VM runs on", lambda: document(host, "vm", "show", "web1")["state"] == "running", 60)
    only_root_knows(behind)


def test_an_empty_variable_removes_the_remembered_proxy(behind: Behind) -> None:
    host = behind.host
    nqr(host, "install", "--non-interactive", env={"http_proxy": "", "https_proxy": ""}, timeout=600)
    assert behind.password not in host.read(REACH) and OFFICE in host.read(REACH)
    nqr(host, "install", "--non-interactive", env=behind.variables, timeout=600)
    assert behind.password in host.read(REACH)


def test_uninstall_forgets_the_proxy_and_leaves_nothing(behind: Behind) -> None:
    host = behind.host
    nqr(host, "uninstall", "--purge-data", "--drop-database", "--non-interactive", timeout=900)
    assert not host.exists(REACH)
    host.run(f"cd {LOCKS} && sed -i '/^# newer$/d' *.txt")
    assert "\n".join(behind.before.diff(host.fingerprint())) == ""
