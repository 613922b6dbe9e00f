"""The bootstrap on pristine hosts: from nothing to the command line, and what is left on the host afterwards."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from tests.hosts.machine import Machine, why_not

_reason = why_not()
pytestmark = [pytest.mark.hosts, pytest.mark.skipif(_reason is not None, reason=f"no real hosts here: {_reason}")]

CLONE = "/root/my clone"
INSTALL = [f"{CLONE}/scripts/install/install.sh"]
CACHE = "/var/cache/nqrust-microvm"
LISTING = f"cd '{CLONE}' && find . | sort"
PACKAGES = "dpkg-query -W -f '${Package} ${Status}\\n' | sort"
COMMAND_LINE = """
import json, os, sys
def main():
    import cryptography, hatchling, pydantic, typer  # what the environment is for
    print(json.dumps([sys.argv, os.environ["NQR_SOURCE_CHECKOUT"], sys.version_info[:2]]))
    return 0
"""


@pytest.fixture
def host() -> Iterator[Machine]:
    with Machine() as machine:
        machine.clone_repository(CLONE)
        machine.write(f"{CLONE}/src/nqrust/cli/__main__.py", COMMAND_LINE)
        yield machine


def test_bootstrap_works_from_nothing_again_and_offline(host: Machine) -> None:
    before, cloned = host.run(PACKAGES).stdout, host.run(LISTING).stdout
    assert "python3-venv" not in before
    first = host.run([*INSTALL, "--mode", "production"], timeout=600)
    assert json.loads(first.stdout)[0] == ["nqr", "install", "--mode", "production"]
    assert host.run(PACKAGES).stdout == before, "python3-venv was only borrowed"
    assert len(first.stderr.splitlines()) <= 4, "one line for each thing it does"
    assert host.run(["stat", "-c", "%a %U", CACHE]).stdout.split() == ["700", "root"]
    record = json.loads(host.read(f"{CACHE}/bootstrap.json"))
    assert record["packages"] == [] and record["cache"] == CACHE
    assert not host.exists("/root/.cache")
    compiled = host.run(f"find {CACHE} -name '*.pyc' -path '*/typer/*'").stdout.split()
    assert compiled and all(path.startswith(f"{CACHE}/pycache/") for path in compiled), "compiled once, where it is read"

    mark = host.mark()
    began = time.monotonic()
    second = host.run(INSTALL)
    assert second.stderr == "" and time.monotonic() - began < 5
    assert [c for c in host.changes(mark) if "pycache" not in str(c)] == []

    host.cut_network()
    assert host.run(INSTALL).ok
    # Half an environment: the wheels that were fetched make it whole, without asking the network for any of them.
    host.join_network()
    host.run(f"rm {CACHE}/bootstrap/*/.complete")
    assert host.run(INSTALL, env={"PIP_CONFIG_FILE": "/dev/null", "PIP_INDEX_URL": "http://127.0.0.1:9/"}, timeout=600).ok
    assert host.run(PACKAGES).stdout == before
    assert host.run(LISTING).stdout == cloned, "no run writes into the clone"


def test_bootstrap_killed_midway_starts_over(host: Machine) -> None:
    before = host.run(PACKAGES).stdout
    running = host.start(INSTALL)
    host.wait_for(f"ls {CACHE}/bootstrap/*/bin/python", timeout=300, every=0.05)
    running.kill()
    host.run("for p in $(pgrep -f /bootstrap/) ; do kill -9 $p; done; true", check=False)
    assert not host.run(f"ls {CACHE}/bootstrap/*/.complete", check=False).ok
    assert host.run(INSTALL, timeout=600).ok
    assert host.run(PACKAGES).stdout == before


def test_bootstrap_installs_and_records_a_missing_python(host: Machine) -> None:
    host.run(
        "DEBIAN_FRONTEND=noninteractive apt-get -y purge python3-minimal python3 && apt-get -y autoremove --purge", timeout=300
    )
    before = set(host.run(PACKAGES).stdout.splitlines())
    assert host.run(INSTALL, timeout=600).ok
    brought = {text.split()[0] for text in set(host.run(PACKAGES).stdout.splitlines()) - before}
    record = json.loads(host.read(f"{CACHE}/bootstrap.json"))
    assert record["manager"] == "apt" and "python3" in record["packages"]
    assert set(record["packages"]) == brought


def test_bootstrap_without_network_names_what_is_missing() -> None:
    with Machine(primed=False) as host:
        host.clone_repository(CLONE)
        host.cut_network()
        done = host.run(INSTALL, check=False, timeout=600)
    assert done.code == 1 and "NQR-DEP-902" in done.stderr
    assert "Traceback" not in done.stderr


def test_uninstall_on_a_pristine_host_does_nothing(host: Machine) -> None:
    mark = host.mark()
    done = host.run([f"{CLONE}/scripts/install/uninstall.sh", "--non-interactive"])
    assert "nothing to do" in done.stderr
    assert [change for change in host.changes(mark) if not change.path.startswith("/var/log/journal/")] == []
