"""A host whose links forward one by one, as `IPv4Forwarding=` of systemd.network(5) has it: the kernel sets all links with ip_forward."""

from __future__ import annotations

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.verbs.lifecycle import applied, reverted

from nqrust.host.port import Command
from nqrust.installer.verbs.kernel.forwarding import FORWARDING
from nqrust.installer.verbs.kernel.sysctl import Sysctl, routed

ALL = "/proc/sys/net/ipv4/ip_forward"
LINKS = {name: f"/proc/sys/net/ipv4/conf/{name}/forwarding" for name in ("all", "default", "eth0", "lan0.5")}


@pytest.fixture
def host() -> FakeHost:
    """lan0.5 forwards."""
    host = FakeHost.debian12()

    def tee(host: FakeHost, cmd: Command) -> None:
        assert isinstance(cmd.input, bytes)
        for path in LINKS.values() if cmd.argv[1] == ALL else ():
            host.put(path, cmd.input)
        host.put(cmd.argv[1], cmd.input)

    host.on("tee", prefix=True, changes=True, answer=tee)
    for path in (ALL, *LINKS.values()):
        host.put(path, "0\n")
    host.put(LINKS["lan0.5"], "1\n")
    return host


def test_a_link_that_forwarded_forwards_again_after_an_uninstall(host: FakeHost) -> None:
    _, records = applied(host, Sysctl(FORWARDING, "1"))
    assert host.read_text(LINKS["eth0"]) == "1\n"
    reverted(host, records)
    assert [host.read_text(path) for path in (ALL, LINKS["eth0"], LINKS["lan0.5"])] == ["0\n", "0\n", "1\n"]


def test_a_host_whose_links_forward_is_known(host: FakeHost) -> None:
    assert routed(host, ())
    undo = Sysctl(FORWARDING, "1").prepare(host).undo
    host.put(ALL, "1\n")
    assert routed(host, undo), "a re-run reads it in the records"
    host.put(ALL, "0\n")
    host.put(LINKS["lan0.5"], "0\n")
    assert not routed(host, ())
