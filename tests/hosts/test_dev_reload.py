"""Work on the sources with mode dev: an edit comes into effect with `nqr dev reload`, and VMs run on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.hosts import product, warm
from tests.hosts.machine import Machine
from tests.hosts.product import nqr

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(2400)]

CLONE = "/root/nqrust"
SERVICES = ("nqrust-manager", "nqrust-agent", "nqrust-ui")


@pytest.fixture(scope="module")
def host() -> Iterator[Machine]:
    with Machine() as machine:
        machine.clone_repository(CLONE)
        yield machine


def processes(host: Machine) -> dict[str, str]:
    return {name: host.run(["systemctl", "show", "-P", "MainPID", name]).stdout.strip() for name in SERVICES}


def append(host: Machine, name: str, text: str) -> None:
    path = f"{CLONE}/src/nqrust/{name}"
    host.write(path, host.read(path) + text)


def test_an_edit_restarts_only_the_services_that_load_it(host: Machine, tell: Callable[[str], None]) -> None:
    before = host.fingerprint()
    warm.fill(host)
    product.bootstrap(host, "--mode", "dev", "--source", CLONE, "--non-interactive", clone=CLONE)
    vm = product.create_vm(host, "web1")
    assert "Nothing changed." in nqr(host, "dev", "reload").stdout
    was = processes(host)

    append(host, "ui/__init__.py", "\n# an edit\n")
    began = time.monotonic()
    said = nqr(host, "dev", "reload").stdout
    tell(f"nqr dev reload of one file of the web UI: {time.monotonic() - began:.1f} s")
    assert "1 file changed." in said and "nqrust-ui restarted." in said and "nqrust-agent runs on." in said, said
    now = processes(host)
    assert [name for name in SERVICES if now[name] != was[name]] == ["nqrust-ui"]

    append(host, "contract/__init__.py", "\n# an edit\n")
    nqr(host, "dev", "reload")
    assert [name for name in SERVICES if processes(host)[name] == now[name]] == [], "all of them load the contract"
    assert product.document(host, "vm", "show", "web1")["boot_id"] == vm["boot_id"], "the VM ran on"
    assert nqr(host, "verify").code == 0

    append(host, "manager/app.py", "\ndef (\n")
    refused = nqr(host, "dev", "reload", check=False)
    assert refused.code != 0 and "NQR-DEP-963" in refused.stderr, refused.describe()
    nqr(host, "uninstall", "--purge-data", "--drop-database", "--non-interactive", timeout=600)
    assert [line for line in before.diff(host.fingerprint()) if CLONE not in line] == [], "but for the edits"
