"""What one VM takes through its forwards is bounded, as far as the kernel can; the forwards themselves stay."""

from __future__ import annotations

import pytest
from tests.documentation import pages
from tests.fakes.host import FakeHost
from tests.unit.agent.test_network import record
from tests.unit.installer.verbs.test_kernel_and_network import Tables

from nqrust.agent.network.forwards import A_SECOND, AT_ONCE, OPEN, Forwards
from nqrust.agent.settings import Network
from nqrust.contract.names import tap_name
from nqrust.contract.vms import PortForward
from nqrust.host.errors import CommandFailed
from nqrust.host.port import Command

VM = record("a", "10.0.0.20", tap_name("a")).model_copy(update={"forwards": [PortForward(host_port=8080, guest_port=80)]})


@pytest.mark.parametrize("lacks", [(), ("hashlimit",), ("connlimit",), ("hashlimit", "connlimit")])
def test_a_kernel_without_a_match_has_the_other_bound_and_the_forwards(lacks: tuple[str, ...]) -> None:
    host = FakeHost.debian12()
    host.install("iptables")
    tables, missing = Tables(host), list(lacks)
    host.memory["rules"]["nat"] |= {"PREROUTING": [], "OUTPUT": []}

    def restore(host: FakeHost, cmd: Command) -> None:
        assert isinstance(cmd.input, bytes)
        if any(f"-m {match} ".encode() in cmd.input for match in missing):
            raise CommandFailed(cmd.argv, 2, "Couldn't load match")
        tables.restore(host, cmd)

    host.on("iptables-restore", prefix=True, answer=restore)
    forwards = Forwards(host, Network(), lambda: [VM])
    assert [forwards.sync(), forwards.sync()] == [True, False], "drawn once"
    assert ("Couldn't load match" in forwards.lacking) == bool(lacks)
    rules = host.memory["rules"]["filter"]["NQR-FWD"]
    assert [rule[-1] for rule in rules] == [*["DROP"] * (2 - len(lacks)), "ACCEPT"]
    missing.clear()
    forwards.sync()
    assert len(host.memory["rules"]["filter"]["NQR-FWD"]) == 3 and not forwards.lacking, "it has them by now"


def test_the_security_page_has_the_bounds() -> None:
    bounds = f"{A_SECOND} new connections per second, burst {AT_ONCE}, and {OPEN} open ones"
    assert f"Through its port forwards, a VM takes {bounds}." in pages.text("docs/understand/security.md")
