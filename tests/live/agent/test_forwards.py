"""Port forwards: whose port it is, what is drawn, and that nothing stays. The rules run for real in a namespace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fakes.host import FakeHost

from nqrust.agent.errors import Refused
from nqrust.agent.network.forwards import Forward, Forwards, restore_text, rules
from nqrust.agent.settings import Network, Settings
from nqrust.agent.store import VmRecord
from nqrust.contract.vms import PortForward, StopRequest
from nqrust.host.local import LocalHost
from nqrust.host.port import command

from .conftest import VM, Bench

OTHER = "1b8f0c3e-5f0e-4a53-9f4e-6a1d2a8f7c12"
WEB = PortForward(host_port=8080, guest_port=80)
DNS = PortForward(protocol="udp", host_port=5353, guest_port=53)


def test_forwards_come_with_the_vm_change_while_it_runs_and_go_with_it(bench: Bench) -> None:
    status = bench.service.put(bench.spec(forwards=[WEB]))
    assert status.forwards == [WEB]
    assert bench.forwards.drawn == [(VM, 8080, 80)]
    bench.service.put(bench.spec(forwards=[DNS], run=False))
    assert bench.forwards.drawn == [(VM, 5353, 53)]
    assert len(bench.scopes.spawned) == 1, "the VM ran on"
    bench.service.stop(VM, StopRequest())
    assert bench.forwards.drawn == []
    bench.service.put(bench.spec(forwards=[DNS]))
    assert bench.forwards.drawn == [(VM, 5353, 53)]
    bench.service.delete(VM)
    assert bench.forwards.drawn == []


def test_a_port_leads_to_one_vm(bench: Bench) -> None:
    bench.service.put(bench.spec(forwards=[WEB]))
    with pytest.raises(Refused, match="forwarded to VM web1") as refused:
        bench.service.put(bench.spec(OTHER, name="web2", ip="10.0.0.21", forwards=[WEB]))
    assert refused.value.code == "NQR-NET-705"
    assert OTHER not in bench.service.store.ids(), "nothing was begun"


def test_a_port_of_a_program_of_the_host_is_not_taken_from_it(bench: Bench) -> None:
    bench.forwards.listening = {("tcp", 8080)}
    with pytest.raises(Refused) as refused:
        bench.service.put(bench.spec(forwards=[WEB]))
    assert refused.value.code == "NQR-NET-706"
    bench.service.put(bench.spec(forwards=[WEB.model_copy(update={"protocol": "udp"})]))


@pytest.mark.parametrize("port", [22, 3000, 5432, 18080, 19090, 19091, 18443, 28080])
def test_a_port_of_the_platform_is_not_taken_from_it_while_it_is_down(bench: Bench, port: int) -> None:
    settings = Settings(bind=("0.0.0.0", 18443), manager_base="http://localhost:28080")
    host = FakeHost.debian12()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        host.put(f"/proc/net/{table}", "  sl  local_address\n")
    records: list[VmRecord] = []
    forwards = Forwards(host, Network(), lambda: records, settings.platform_ports)
    spec = bench.spec(forwards=[PortForward(host_port=port, guest_port=80)])
    with pytest.raises(Refused) as refused:
        forwards.check(spec, None)
    assert refused.value.code == "NQR-NET-706"
    forwards.check(bench.spec(forwards=[PortForward(protocol="udp", host_port=port, guest_port=80), WEB]), None)
    before = VmRecord.model_validate({**spec.model_dump(), "created_at": "2026-01-01T00:00:00Z"})
    forwards.check(spec, before)  # it was its own before the platform took it: it starts as ever


def test_a_manager_elsewhere_keeps_no_port_here() -> None:
    assert 8080 not in Settings(manager_base="http://manager.example:8080").platform_ports


def test_only_a_nat_network_has_forwards(bench: Bench) -> None:
    bridged = Forwards(LocalHost(), Network(mode="bridged"), list)
    with pytest.raises(Refused) as refused:
        bridged.check(bench.spec(forwards=[WEB]), None)
    assert refused.value.code == "NQR-NET-704"
    assert bridged.sync() is False


def test_listening_ports_are_seen_but_not_those_of_loopback() -> None:
    import socket

    with socket.socket() as everywhere, socket.socket() as inside:
        everywhere.bind(("0.0.0.0", 0))
        everywhere.listen()
        inside.bind(("127.0.0.1", 0))
        inside.listen()
        seen = Forwards(LocalHost(), Network(), list)._listening()
        assert ("tcp", everywhere.getsockname()[1]) in seen
        assert ("tcp", inside.getsockname()[1]) not in seen


def test_guests_are_not_led_around_their_isolation() -> None:
    found = rules("fcbr0", [Forward(VM, "10.0.0.20", WEB)])
    assert [rule[:3] for rule in found["NQR-PREROUTING"]] == [("!", "-i", "fcbr0")]
    assert [rule[:4] for rule in found["NQR-FWD"][:2]] == 2 * [("!", "-i", "fcbr0", "-o")], "what bounds all of them"
    assert [rule[:7] for rule in found["NQR-FWD"][2:]] == [("-d", "10.0.0.20/32", "!", "-i", "fcbr0", "-o", "fcbr0")]
    assert "-A NQR-PREROUTING ! -i fcbr0 -p tcp" in restore_text("nat", {"NQR-PREROUTING": found["NQR-PREROUTING"]})


_SCRIPT = """
import sys
from datetime import datetime, timezone
from nqrust.agent.network.forwards import Forwards
from nqrust.agent.settings import Network, Settings
from nqrust.agent.store import VmRecord
from nqrust.agent.store import VmRecord
from nqrust.contract.agent import ImageRef
from nqrust.contract.images import Blob
from nqrust.contract.vms import PortForward
from nqrust.host.local import LocalHost
from nqrust.host.port import command
from nqrust.installer.verbs.firewall.rules import IptablesRules
from nqrust.installer.verbs.firewall.vm_network import vm_network
from nqrust.installer.engine.step import Satisfied
from nqrust.installer.verbs.firewall.undo import rules as undo
from types import SimpleNamespace

host, network = LocalHost(), Network()
step = IptablesRules(vm_network(network.bridge, network.cidr, network.gateway))
taken_back = step.prepare(host).undo[0]
step.apply(host)
blob = Blob(file="x", size=1, sha256="0" * 64)
record = VmRecord(id="a1", name="web1", generation=1, vcpus=1, memory_mib=64, disk_mib=16, mac="06:4e:00:00:00:01",
    image=ImageRef(name="tiny", rootfs=blob, kernel=blob), tap="tap00000000000", ip="10.0.0.20", asked="run",
    created_at=datetime.now(timezone.utc),
    forwards=[PortForward(host_port=8080, guest_port=80), PortForward(protocol="udp", host_port=53, guest_port=53)])
records = [record]
forwards = Forwards(host, network, lambda: records)
assert forwards.sync(), "drawn"
assert not forwards.sync(), "a second look changes nothing"
assert isinstance(step.inspect(host), Satisfied), "the installer finds its own rules as they were"
both = host.run(command("iptables", "-S", "FORWARD")).stdout
assert both.index("NQR-FWD") < both.index("NQR-FORWARD"), both
host.run(command("iptables", "-t", "nat", "-F", "NQR-PREROUTING"))
host.run(command("iptables", "-D", "FORWARD", "-m", "comment", "--comment", "nqrust", "-j", "NQR-FWD"))
assert forwards.sync() and not forwards.sync(), "drawn again after somebody flushed"
if "undo" in sys.argv:
    undo(SimpleNamespace(host=host), taken_back.args)
else:
    records.clear()
    assert forwards.sync() and not forwards.sync()
    assert isinstance(step.inspect(host), Satisfied)
    undo(SimpleNamespace(host=host), taken_back.args)
left = host.run(command("iptables", "-S")).stdout + host.run(command("iptables", "-t", "nat", "-S")).stdout
assert "NQR" not in left and "DNAT" not in left, left
"""


@pytest.mark.parametrize("how", ["the last forward goes", "undo"])
def test_the_kernel_takes_the_rules_and_nothing_stays(how: str, tmp_path: Path) -> None:
    host = LocalHost()
    if os.geteuid() != 0 or host.which("iptables") is None or host.which("unshare") is None:
        pytest.skip("needs root, iptables and unshare")
    try:
        host.run(command("unshare", "--net", "iptables", "-t", "nat", "-S"))
    except Exception:
        pytest.skip("this kernel has no iptables in a network namespace")
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", _SCRIPT, how], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
