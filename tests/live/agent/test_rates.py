"""What a TAP may carry, and what is said where the kernel cannot. test_features_live.py runs it for real."""

from __future__ import annotations

import pytest
from tests.fakes.host import FakeHost

from nqrust.agent.errors import Failed
from nqrust.agent.network import rates
from nqrust.agent.vmm.port import Capabilities
from nqrust.contract.names import tap_name
from nqrust.contract.vms import RateLimits
from nqrust.host.port import Command, Completed

from .conftest import VM, Bench

TAP, IFB, NET = "tap0123456789a", "ifb0123456789a", "/sys/class/net"
BOTH = RateLimits(net_rx_kbit=1000, net_tx_kbit=2000)


def kernel(lacks: str = "") -> FakeHost:
    """Does what ip and tc ask for, but for what has the words `lacks` in it."""

    def answer(host: FakeHost, cmd: Command) -> object:
        refused = lacks and lacks in line(cmd)
        if "type ifb" in line(cmd) and not refused:
            host.put(f"{NET}/{IFB}/flags", "0x83\n")
        if cmd.argv[:3] == ("ip", "link", "delete"):
            host.remove_tree(f"{NET}/{IFB}")
        return Completed(cmd.argv, 2, "", "Error: Specified qdisc kind is unknown.") if refused else ""

    host = FakeHost.debian12()
    for program in ("tc", "ip", "modprobe"):
        host.install(program)
        host.on(program, prefix=True, answer=answer)
    host.work[IFB] = ("tx-checksum-ip-generic",)
    return host


def line(cmd: Command) -> str:
    text = cmd.input.decode() if isinstance(cmd.input, bytes) else ""
    return "; ".join([" ".join(cmd.argv), *text.splitlines()])


def asked(host: FakeHost) -> list[str]:
    return [line(cmd) for cmd in host.commands]


def test_one_way_needs_no_second_device() -> None:
    host = kernel()
    rates.limit(host, TAP, "nqrust-vm:a1", RateLimits(net_rx_kbit=1000))
    assert asked(host)[-1] == f"tc qdisc replace dev {TAP} root tbf rate 1000kbit burst 32768 latency 200ms"
    assert not any("ifb" in line for line in asked(host))


def test_from_the_guest_goes_round_through_a_device_that_is_marked_as_the_vms() -> None:
    host = kernel()
    rates.limit(host, TAP, "nqrust-vm:a1", BOTH)
    made, led, slow = asked(host)[-3:]
    assert made.endswith(f"link set dev {IFB} alias nqrust-vm:a1 up"), "uninstall finds it by that"
    assert led.endswith(f"action mirred egress redirect dev {IFB}")
    assert IFB in host.work, "frames without a header leave it no work, so it keeps its features: a kernel may refuse that"
    assert slow == f"tc qdisc replace dev {IFB} root tbf rate 2000kbit burst 32768 latency 200ms"


def test_a_limit_that_ends_leaves_frames_with_a_header_on_their_way_round() -> None:
    host = kernel()
    host.put(f"{NET}/{TAP}/tun_flags", "0x5002\n")
    host.put(f"{NET}/{IFB}/flags", "0x83\n")
    rates.limit(host, TAP, "nqrust-vm:a1", BOTH)
    rates.limit(host, TAP, "nqrust-vm:a1", RateLimits())
    assert not any("ingress" in one or "link" in one for one in asked(host))
    assert asked(host)[-1] == f"tc qdisc delete dev {IFB} root"


@pytest.mark.parametrize("lacks", ["qdisc replace", "type ifb", "filter add"])
def test_a_kernel_that_cannot_says_so_and_the_tap_is_left_clean(lacks: str) -> None:
    host = kernel(lacks)
    with pytest.raises(Failed) as failed:
        rates.limit(host, TAP, "nqrust-vm:a1", BOTH)
    assert (failed.value.code, failed.value.status) == ("NQR-NET-708", 422)
    cleared = [one for one in asked(host) if not one.startswith("ip link delete")]
    assert cleared[-2:] == [f"tc qdisc delete dev {TAP} root", f"tc qdisc delete dev {TAP} ingress"]
    assert not host.exists(f"{NET}/{IFB}")


def test_without_tc_nothing_can_be_limited_and_nothing_need_be_cleared() -> None:
    host = FakeHost.debian12()
    rates.limit(host, TAP, "nqrust-vm:a1", RateLimits())
    with pytest.raises(Failed) as failed:
        rates.limit(host, TAP, "nqrust-vm:a1", BOTH)
    assert failed.value.code == "NQR-NET-708"


@pytest.mark.parametrize(("kbit", "burst"), [(64, 32768), (100_000, 250_000), (100_000_000, 16 << 20)])
def test_a_burst_is_twenty_milliseconds_within_reason(kbit: int, burst: int) -> None:
    assert rates.bucket(kbit)[4] == str(burst)


def test_a_vms_limits_reach_tap_and_vmm_at_its_start_and_while_it_runs(bench: Bench) -> None:
    bench.service.put(bench.spec(rate_limits=BOTH.model_dump()))
    assert bench.taps.limited == {tap_name(VM): BOTH}
    less = RateLimits(net_rx_kbit=500, disk_iops=100)
    bench.service.put(bench.spec(rate_limits=less.model_dump(), run=False))
    assert bench.taps.limited == {tap_name(VM): less}
    assert bench.vmm.limited == [(0, less)]
    assert len(bench.scopes.spawned) == 1, "the VM ran on"
    bench.service.put(bench.spec(rate_limits=less.model_dump(), run=False))
    assert len(bench.vmm.limited) == 1, "nothing changed"


def test_a_vmm_that_limits_the_network_itself_leaves_the_tap_alone(bench: Bench) -> None:
    bench.vmm.capabilities = Capabilities(frozenset({"tcg"}), network_limits=True)
    bench.service.put(bench.spec(rate_limits=BOTH.model_dump()))
    bench.service.put(bench.spec(run=False))
    assert not bench.taps.limited
    assert bench.vmm.limited == [(0, RateLimits())]


def test_where_the_host_cannot_the_vm_does_not_start_unlimited(bench: Bench) -> None:
    bench.taps.cannot = True
    with pytest.raises(Failed):
        bench.service.put(bench.spec(rate_limits=BOTH.model_dump()))
    assert not bench.scopes.alive and not bench.taps.links and not bench.vmm.begun
    assert bench.service.status(VM).state == "stopped"
    assert bench.service.put(bench.spec()).state == "running"
    with pytest.raises(Failed):
        bench.service.put(bench.spec(rate_limits=BOTH.model_dump(), run=False))
    record = bench.service.store.read(VM)
    assert record is not None and record.rate_limits == RateLimits(), "what is not in force is not on record"
