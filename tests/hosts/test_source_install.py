"""An install from a source tree in upstream's form on a pristine host, which has no tool that the tree needs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.fakes.standin import tree
from tests.hosts import product
from tests.hosts.machine import Fingerprint, Machine
from tests.hosts.product import CACHE, fetch, nqr

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(3600)]

TREE = "/root/up stream/sources"  # any path must do
OPTIONS = ("--mode", "dev", "--source", TREE, "--non-interactive")
# npm looks at no certificates of the system.
CERTIFICATES = {"SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"}
TOOLS = "dpkg-query -W -f '${Package}\\n' | grep -E '^(rustc|cargo|nodejs|npm|gcc$)' | sort"


@dataclass
class Built:
    host: Machine
    before: Fingerprint


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    folder = tmp_path_factory.mktemp("tree") / "upstream"
    tree.write(folder)
    with Machine() as host:
        product.clone(host)
        host.push(folder, TREE)
        assert host.run(TOOLS, check=False).stdout == ""
        yield Built(host, host.fingerprint())


def test_a_tree_is_built_and_installed_with_the_tools_it_needs(built: Built, tell: Callable[[str], None]) -> None:
    host, mark = built.host, built.host.mark()
    said = product.bootstrap(host, *OPTIONS, env=CERTIFICATES, timeout=3000).stdout
    assert "Not proven here: canary" in said, said
    status, body = fetch(host, "http://127.0.0.1:18080/health")
    assert (status, json.loads(body)["version"]) == (200, tree.VERSION)
    status, page = fetch(host, "http://127.0.0.1:3000/")
    assert status == 200 and "stand-in UI" in page
    installed = host.run(["readlink", "/opt/nqrust-microvm/current"]).stdout.strip()
    assert installed.startswith(f"releases/{tree.VERSION}+")
    assert {"cargo-web", "rustc-web", "gcc"} <= set(host.run(TOOLS).stdout.split()), (
        "the distribution's, because they are new enough"
    )
    assert host.run(["/opt/nqrust-microvm/bin/node", "--version"]).stdout.startswith("v2")
    assert [str(path) for path in host.changes(mark) if str(path).startswith((TREE, "/var/lib/nqrust-microvm/building"))] == []
    log = host.read(f"{CACHE}/releases/{installed.removeprefix('releases/')}.built.log")
    assert "Compiling itoa" in log and "setpriv" not in said
    tell(f"built and installed from a source tree, {len(log.splitlines())} lines of output")


def test_it_is_proven_and_a_second_run_changes_nothing(built: Built) -> None:
    host = built.host
    assert nqr(host, "verify").code == 0
    assert "(0 changed" in product.bootstrap(host, *OPTIONS, env=CERTIFICATES).stdout
    assert "(0 changed" in nqr(host, "install", "--non-interactive").stdout, "the tree is remembered"


def test_uninstall_takes_the_tools_along(built: Built) -> None:
    host = built.host
    nqr(host, "uninstall", "--purge-data", "--drop-database", "--non-interactive", timeout=900)
    assert host.run(TOOLS, check=False).stdout == ""
    assert "\n".join(built.before.diff(host.fingerprint())) == ""
