"""A sample of the kill matrix that every run of the suite can afford: one install and one uninstall, each cut off again
and again. `test_kill_matrix.py` does it at every record."""

from __future__ import annotations

import pytest

from tests.hosts import killing, product
from tests.hosts.killing import INSTALL, PURGE, UNINSTALL
from tests.hosts.machine import Machine

pytestmark = pytest.mark.timeout(1800)

UNITS = ("nqrust-network", "nqrust-dhcp", "nqrust-manager", "nqrust-agent")


def test_install_and_uninstall_survive_a_dozen_kills(debian12: Machine) -> None:
    host = debian12
    product.clone(host)
    before = host.fingerprint()
    minimal = (INSTALL, "--mode", "minimal", "--non-interactive")
    chain = killing.run_killed(host, minimal, killing.every(8))
    assert len(chain.points) > 6 and {point.last for point in chain.points} >= {"begin", "done"}
    assert chain.last is not None
    resumed = "continued an interrupted run" in chain.last.stdout
    assert resumed or chain.points[-1].last == "end", "it says that it resumed, if anything was left to do"
    for unit in UNITS:
        assert host.run(["systemctl", "is-active", unit], check=False).stdout.strip() == "active", unit
    again = host.run([INSTALL, "--non-interactive"], timeout=300)
    assert "(0 changed" in again.stdout, again.describe()

    chain = killing.run_killed(host, (UNINSTALL, *PURGE), killing.undo_records(stride=15))
    assert len(chain.points) > 3
    assert "\n".join(before.diff(host.fingerprint())) == ""
    assert not host.exists("/var/lib/nqrust-microvm") and not host.exists(product.CACHE)
