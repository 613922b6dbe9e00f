"""What a guest leaves to its host is done before the host's rules: the lines for it, and hosts that cannot."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import structlog
from tests.fakes.host import FakeHost
from tests.unit.agent.test_network import TAP, machine, ran
from tests.unit.agent.test_upkeep import agent

from nqrust.agent.keep_up import KeepUp
from nqrust.agent.network import detours
from nqrust.agent.network.taps import Taps
from nqrust.host.errors import CommandFailed, PathError
from nqrust.host.port import Command, Completed

IFB, NET = "ifb0123456789a", "/sys/class/net"
SHOWN = f"\taction order 1: mirred (Egress Redirect to device {IFB}) stolen\n"
MADE = (
    *("ip", "-batch", "-"),
    f"link add name {IFB} txqueuelen 1000 type ifb",
    f"link set dev {IFB} addrgenmode none",
    f"link set dev {IFB} alias nqrust-vm:a1 up",
)
LED = (
    *("tc", "-batch", "-"),
    f"qdisc add dev {TAP} handle ffff: ingress",
    f"filter add dev {TAP} parent ffff: protocol all u32 match u32 0 0 action mirred egress redirect dev {IFB}",
)
LOOK = ("tc", "-force", "-batch", "-", f"filter show dev {TAP} parent ffff:")


def host_with_a_tap(*, flags: str = "0x5002", lacks: str = "", shown: str = SHOWN) -> FakeHost:
    host = machine(alias="nqrust-vm:a1")
    host.put("/proc/sys/net/ipv6/conf/all/disable_ipv6", "0\n")
    host.put(f"{NET}/{TAP}/tun_flags", f"{flags}\n")
    host.put(f"{NET}/fcbr0/addr_assign_type", "3\n")
    host.put("/sys/module/ifb/initstate", "live\n")

    def answer(host: FakeHost, cmd: Command) -> object:
        text = cmd.input.decode() if isinstance(cmd.input, bytes) else ""
        if lacks and lacks in text:
            return CommandFailed(cmd.argv, 1, "RTNETLINK answers: Operation not supported")
        if "type ifb" in text:
            host.put(f"{NET}/{text.split()[3]}/flags", "0x83\n")
        if cmd.argv[1:3] == ("link", "delete"):
            host.remove_tree(f"{NET}/{cmd.argv[-1]}")
        return Completed(cmd.argv, 0, shown if cmd.argv[0] == "tc" else "", "")

    for program in ("ip", "tc"):
        host.install(program)
        host.on(program, prefix=True, answer=answer)
    return host


def test_frames_with_a_header_are_led_round_before_the_port_goes_up() -> None:
    host = host_with_a_tap()
    host.work[IFB] = ("tx-checksum-ip-generic",)
    seen = ran(host)
    Taps(host, "fcbr0", isolated=True).take(TAP, "a1", 77)
    assert seen[:2] == [MADE, LED] and not host.work
    assert len(seen) == 3 and seen[2][-1] == f"link set dev {TAP} up"


def test_a_tap_without_a_header_needs_no_program() -> None:
    host = host_with_a_tap(flags="0x1002")
    seen = ran(host)
    found = detours.Detours(host)
    found.lead(TAP, "a1")
    assert (found.put_back([(TAP, "a1")]), seen) == ({}, [])


def test_all_taps_that_are_led_round_are_one_question() -> None:
    host = host_with_a_tap()
    host.put(f"{NET}/tapffffffffff0/tun_flags", "0x5002\n")
    host.put(f"{NET}/ifbffffffffff0/flags", "0x83\n")
    host.put(f"{NET}/{IFB}/flags", "0x83\n")
    host.on("tc", prefix=True, answer=SHOWN + SHOWN.replace(IFB, "ifbffffffffff0"))
    seen = ran(host)
    assert detours.Detours(host).put_back([(TAP, "a1"), ("tapffffffffff0", "b2")]) == {}
    assert seen == [(*LOOK, "filter show dev tapffffffffff0 parent ffff:")]


@pytest.mark.parametrize("lacks", ["type ifb", "qdisc add", "filter add"])
def test_a_vm_starts_on_a_host_that_cannot_and_nothing_is_left_half_done(lacks: str) -> None:
    host = host_with_a_tap(lacks=lacks, shown="")
    seen = ran(host)
    taps = Taps(host, "fcbr0", isolated=True)
    taps.take(TAP, "a1", 77)
    assert taps.detours.lacking.endswith("Operation not supported")
    assert seen[-1][-1] == f"link set dev {TAP} up" and ("tc", "qdisc", "delete", "dev", TAP, "ingress") in seen
    assert not host.exists(f"{NET}/{IFB}")


def test_a_host_without_tc_is_told() -> None:
    host = host_with_a_tap()
    host.uninstall("tc")
    found = detours.Detours(host)
    found.lead(TAP, "a1")
    assert found.lacking == "tc is not installed on this host" and not host.exists(f"{NET}/{IFB}")


def test_a_tap_that_goes_meanwhile_leaves_no_device_and_no_complaint() -> None:
    host = host_with_a_tap(shown="")

    def vanish(host: FakeHost, cmd: Command) -> object:
        if isinstance(cmd.input, bytes) and b"qdisc add" in cmd.input:
            if host.exists(f"{NET}/{TAP}"):
                host.remove_tree(f"{NET}/{TAP}")
            return CommandFailed(cmd.argv, 1, f'Cannot find device "{TAP}"')
        return Completed(cmd.argv, 0, "", "")

    host.on("tc", prefix=True, answer=vanish)
    found = detours.Detours(host)
    assert (found.put_back([(TAP, "a1")]), found.lacking) == ({}, "")
    assert not host.exists(f"{NET}/{IFB}")


def test_a_device_that_goes_with_its_vm_meanwhile_is_no_complaint() -> None:
    host = host_with_a_tap()
    host.put(f"{NET}/{IFB}/flags", "0x83\n")

    read = host.read_text

    def read_and_vanish(path: str) -> str:
        found = read(path)
        if path == f"{NET}/{IFB}/flags":
            host.remove_tree(f"{NET}/{IFB}")
        return found

    host.read_text = read_and_vanish  # type: ignore[method-assign]
    found = detours.Detours(host)
    assert (found.put_back([(TAP, "a1")]), found.lacking) == ({}, "")


def test_two_looks_at_once_take_nothing_from_each_other() -> None:
    """The upkeep and the one after a change of the rules. The second found the device of the first, and removed it."""
    host = host_with_a_tap(shown="")
    inside, most = [0], [0]
    answered = host.run

    def slow(cmd: Command, **options: Any) -> Completed:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.01)
        inside[0] -= 1
        return answered(cmd, **options)

    host.run = slow  # type: ignore[method-assign,assignment]
    found = detours.Detours(host)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: found.put_back([(TAP, "a1")]), range(2)))
    assert most == [1] and found.lacking == "" and host.exists(f"{NET}/{IFB}")


def test_one_tap_that_fails_keeps_no_other_from_its_detour() -> None:
    host, other = host_with_a_tap(lacks=f"name {IFB}"), "tapffffffffffe"
    host.put(f"{NET}/{other}/tun_flags", "0x5002\n")
    found = detours.Detours(host)
    assert list(found.put_back([(TAP, "a1"), (other, "b1")])) == [other]
    assert "Operation not supported" in found.lacking


def test_a_part_of_the_work_that_stays_costs_no_detour(monkeypatch: pytest.MonkeyPatch) -> None:
    host = host_with_a_tap()

    def stays(link: str) -> tuple[str, ...]:
        raise PathError(f"{NET}/{link}", "the kernel leaves tx-gso-list on")

    monkeypatch.setattr(host, "leave_no_work", stays)
    found = detours.Detours(host)
    found.lead(TAP, "a1")
    assert host.exists(f"{NET}/{IFB}") and "leaves tx-gso-list on" in found.lacking


def test_the_device_of_a_removed_tap_goes_though_the_upkeep_made_it_again() -> None:
    host = host_with_a_tap()
    host.put(f"{NET}/{IFB}/flags", "0x83\n")

    def remove(host: FakeHost, cmd: Command) -> object:
        host.remove_tree(f"{NET}/{cmd.argv[-1]}")
        if cmd.argv[-1] == TAP:
            host.put(f"{NET}/{IFB}/flags", "0x83\n")
        return Completed(cmd.argv, 0, "", "")

    host.on("ip", "link", "delete", prefix=True, answer=remove)
    Taps(host, "fcbr0", isolated=True).remove(TAP, owner="a1")
    assert not host.exists(f"{NET}/{IFB}")


def test_what_a_host_lacks_is_logged_once() -> None:
    made = agent("nat")
    made.service.taps.detours.lacking = "ip exited with 1: Operation not supported"
    keep = KeepUp(made.service, made.verbs, made.rules, made.sources, made.relay, lambda: None)
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            asyncio.run(keep.pin_taps())
    assert [line["why"] for line in logs if line["event"] == "network.frames_not_finished"] == [
        "ip exited with 1: Operation not supported"
    ]
