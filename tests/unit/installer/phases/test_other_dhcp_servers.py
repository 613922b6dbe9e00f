"""Another DHCP server is refused only where nqr's cannot start beside it."""

from __future__ import annotations

import socket
import sys

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.phases.a_host import fit

from nqrust.host.facts.model import ListeningPort
from nqrust.host.local import LocalHost
from nqrust.host.port import Completed
from nqrust.installer.preflight.findings import Severity
from nqrust.installer.preflight.network import shares_port
from nqrust.installer.preflight.run import Situation, run
from nqrust.installer.settings.model import Settings

FACTS = fit(ports=(ListeningPort("udp", "0.0.0.0", 67, 812, "dnsmasq"),))


def test_a_dhcp_server_that_lets_no_other_start_is_refused() -> None:
    host = FakeHost.debian12()
    host.on(sys.executable, prefix=True, answer=lambda h, c: Completed(c.argv, 2, "", ""))
    (found,) = run(Settings(), FACTS, host, Situation())
    assert (found.severity, found.code) == (Severity.error, "NQR-PRE-037")
    assert "dnsmasq" in found.what and "bind-dynamic" in found.cure


@pytest.mark.parametrize("shared", [True, False])
def test_a_udp_port_that_no_other_may_bind_is_found_on_a_real_host(shared: bool) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            other.setsockopt(socket.SOL_SOCKET, option, int(shared))
        other.bind(("0.0.0.0", 0))
        assert shares_port(LocalHost(), other.getsockname()[1]) is shared
