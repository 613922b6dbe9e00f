"""A host whose only way out is a proxy: the first command of the README, and each later run without the variables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.hosts import product
from tests.hosts.bases import machine_named
from tests.hosts.machine import Machine, TestNetwork
from tests.hosts.machine.fingerprint import Fingerprint
from tests.hosts.product import document, nqr
from tests.hosts.proxying import proxy

pytestmark = pytest.mark.timeout(3000)

REACH = "/var/lib/nqrust-microvm/reach.env"
DIRECTLY = "import socket; socket.create_connection(('{0}', {1}), 5)"


@dataclass
class Behind:
    """`asked`: how often the proxy was asked for each host."""

    host: Machine
    url: str
    asked: Counter[str]
    before: Fingerprint


@pytest.fixture(scope="module", params=["systemd", pytest.param("plain", marks=pytest.mark.matrix)])
def behind(request: pytest.FixtureRequest) -> Iterator[Behind]:
    packages = machine_named("least").tree_packages(request.param)
    with (
        TestNetwork(outward=False) as network,
        proxy(network.gateway) as (url, asked),
        Machine(network=network, systemd=request.param == "systemd", packages=packages) as host,
    ):
        product.clone(host)
        yield Behind(host, url, asked, host.fingerprint())


def test_host_is_installed_through_its_proxy_alone(behind: Behind) -> None:
    host = behind.host
    result = product.bootstrap(host, "--non-interactive", env={"http_proxy": behind.url, "https_proxy": behind.url})
    assert "FAILED" not in result.stdout and len(behind.asked) > 1, "the archive of packages, and the package index"
    for name in behind.asked:
        assert not host.run(["python3", "-c", DIRECTLY.format(name, 443)], check=False).ok, "there is no other way"
    assert host.run(["stat", "-c", "%a %U", REACH]).stdout.split() == ["600", "root"]
    product.create_vm(host, "web1")


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


def test_uninstall_forgets_the_proxy_and_leaves_nothing(behind: Behind) -> None:
    host = behind.host
    nqr(host, "uninstall", "--purge-data", "--drop-database", "--non-interactive", timeout=900)
    assert not host.exists(REACH)
    assert "\n".join(behind.before.diff(host.fingerprint())) == ""
