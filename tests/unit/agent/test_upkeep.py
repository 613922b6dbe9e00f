"""The agent's periodic checks: the rules of its network, and the size of logs."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import structlog
from tests.fakes.host import FakeHost

from nqrust.agent.errors import Conflict
from nqrust.agent.keep_up import KeepUp
from nqrust.agent.network.relay_port import RelayPort
from nqrust.agent.network.rules import NetworkRules
from nqrust.agent.network.sources import Sources, asking, beginning, rules
from nqrust.agent.server import Agent
from nqrust.agent.settings import Settings
from nqrust.agent.vmm.verdict import decide
from nqrust.agent.vms import upkeep
from nqrust.contract.paths import LOCK_FILE
from nqrust.host.errors import CommandFailed, HostError
from nqrust.host.port import Command, Completed

SCRIPT = "/opt/nqrust-microvm/libexec/nqrust-network"


async def _run(work: Any) -> Any:
    return work()


def agent(mode: str) -> MagicMock:
    made = MagicMock()
    made.verbs.run = _run
    made.settings.network.mode = mode
    made.service.dhcp.give_back_lost.return_value = made.service.taps.all.return_value = []
    made.service.taps.pin.return_value = {}
    made.service.store.ids.return_value = []
    made.sources.lacking = made.relay.lacking = made.service.forwards.connections.lacking = ""
    made.service.forwards.lacking = ""
    return made


async def _for_a_moment(work: Any) -> None:
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(work, 0.3)


@pytest.mark.parametrize("mode", ["nat", "isolated", "bridged"])
def test_the_agent_looks_after_the_rules_of_its_network(mode: str) -> None:
    made = agent(mode)
    asyncio.run(_for_a_moment(Agent._keep_up(made)))
    assert made.rules.keep.called


def test_a_port_that_was_changed_is_logged_with_the_reason() -> None:
    made = agent("nat")
    made.service.taps.pin.return_value = {
        "tap0123456789a": ("its MAC was 02:00:00:00:00:01", "the bridge learned addresses from it")
    }
    with structlog.testing.capture_logs() as logs:
        asyncio.run(KeepUp(made.service, made.verbs, None, made.sources, made.relay, lambda: None).pin_taps())
    (line,) = [line for line in logs if line["event"] == "tap.put_back"]
    assert (line["tap"], line["log_level"]) == ("tap0123456789a", "warning")
    assert line["why"] == "its MAC was 02:00:00:00:00:01; the bridge learned addresses from it"


def test_a_step_that_fails_keeps_no_other_from_its_work() -> None:
    made = agent("nat")
    done: list[str] = []
    broken = (HostError("no room"), Conflict("NQR-API-709", "What.", "Cure."), RuntimeError("unforeseen"))
    with structlog.testing.capture_logs() as told:
        for error in broken:
            keep = KeepUp(made.service, made.verbs, made.rules, made.sources, made.relay, lambda: None)

            async def fail(error: Exception = error) -> None:
                raise error

            async def work() -> None:
                done.append("worked")

            fail.__name__ = "first"
            keep.steps = (fail, work)
            asyncio.run(_for_a_moment(keep.run()))
    assert done == ["worked"] * len(broken)
    assert [entry["step"] for entry in told if entry["event"] == "upkeep.failed"] == ["first"] * len(broken)


def test_every_step_of_the_upkeep_runs_though_each_fails() -> None:
    made = agent("nat")

    async def fail(work: Any) -> Any:
        raise HostError("the machine does not answer")

    made.verbs.run = fail
    keep = KeepUp(made.service, made.verbs, made.rules, made.sources, made.relay, lambda: None)
    with structlog.testing.capture_logs() as told:
        asyncio.run(_for_a_moment(keep.run()))
    failed = [entry["step"] for entry in told if entry["event"] == "upkeep.failed"]
    assert failed == [step.__name__ for step in keep.steps if step.__name__ != "watch_the_sources"]


def test_a_kernel_that_does_not_know_whose_answer_it_is_is_told_once() -> None:
    made, host = agent("nat"), FakeHost.debian12()
    host.on("iptables", prefix=True, answer="")
    host.on("iptables-restore", prefix=True, answer=CommandFailed(("iptables-restore",), 2, "Couldn't load match `owner'"))
    keep = KeepUp(made.service, made.verbs, made.rules, made.sources, RelayPort(host, "fcbr0", 19091), lambda: None)
    with structlog.testing.capture_logs() as told:
        for _ in range(2):
            asyncio.run(keep.keep_relay())
    assert [entry["event"] for entry in told] == ["relay.port_not_kept"] and "owner" in told[0]["why"]


def test_one_vm_that_fails_keeps_no_other_from_its_upkeep(monkeypatch: pytest.MonkeyPatch) -> None:
    made, seen = agent("nat"), list[str]()
    monkeypatch.setattr(upkeep, "idle_taps", lambda service: [("tap1", "a1"), ("tap2", "a2")])

    async def on_vm(vm_id: str, work: Any) -> Any:
        seen.append(vm_id)
        raise HostError("busy")

    made.verbs.on_vm = on_vm
    with structlog.testing.capture_logs():
        asyncio.run(KeepUp(made.service, made.verbs, None, made.sources, made.relay, lambda: None).remove_taps())
    assert seen == ["a1", "a2"]


def test_a_new_vmm_is_announced_once() -> None:
    made, told = agent("nat"), list[str]()
    made.service.verdict.side_effect = [decide("auto", None), decide("firecracker", None), decide("firecracker", None)]
    keep = KeepUp(made.service, made.verbs, None, made.sources, made.relay, lambda: told.append("changed"))
    for expected in (0, 1, 1):
        asyncio.run(keep.watch_the_vmm())
        assert len(told) == expected


def test_the_agent_looks_after_logs_whatever_keeps_the_rest_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(upkeep, "bound_logs", lambda service: seen.append(service) or [])
    made = agent("nat")
    asyncio.run(_for_a_moment(Agent._keep_logs(made)))
    assert seen == [made.service]


def test_the_script_is_beside_the_helper() -> None:
    assert Settings().network_script == SCRIPT
    assert Settings(helper="/opt/vms/libexec/nqrust-helper").network_script == "/opt/vms/libexec/nqrust-network"


@pytest.mark.parametrize(("code", "put_back"), [(0, False), (1, True), (2, False)])
def test_rules_are_put_back_only_where_they_are_missing(code: int, put_back: bool) -> None:
    """A script of an earlier version has no `check` and exits with 2."""
    host = FakeHost.debian12()
    host.install(SCRIPT)
    host.put(SCRIPT, "", mode=0o755)
    ran: list[str] = []

    def answer(host: FakeHost, cmd: Command) -> Completed:
        ran.append(cmd.argv[1])
        return Completed(cmd.argv, code if cmd.argv[1] == "check" else 0, "", "")

    host.on(SCRIPT, prefix=True, answer=answer)
    assert NetworkRules(host, SCRIPT).keep() is put_back
    assert ran == (["check", "up"] if put_back else ["check"])
    assert NetworkRules(FakeHost.debian12(), SCRIPT).keep() is False, "there is no script"


@pytest.mark.parametrize(("taken", "does"), [("before", []), ("meanwhile", ["check"]), ("by nobody", ["check", "up"])])
def test_no_rules_are_put_back_while_a_run_of_nqr_changes_them(taken: str, does: list[str]) -> None:
    """A bridge that had just been replaced came back, and uninstall no longer knew it."""
    host = FakeHost.debian12()
    host.install(SCRIPT)
    host.put(SCRIPT, "", mode=0o755)
    host.put(LOCK_FILE, "{}")
    stat = host.stat(LOCK_FILE)
    assert stat is not None
    host.put_directory("/proc/812/fd")
    host.symlink(LOCK_FILE, "/proc/812/fd/3")
    held, ran = f"1: FLOCK  ADVISORY  WRITE 812 08:01:{stat.inode} 0 EOF\n", list[str]()
    host.put("/proc/locks", held if taken == "before" else "")

    def answer(host: FakeHost, cmd: Command) -> Completed:
        ran.append(cmd.argv[1])
        host.put("/proc/locks", held if taken == "meanwhile" else "")
        return Completed(cmd.argv, 1 if cmd.argv[1] == "check" else 0, "", "")

    host.on(SCRIPT, prefix=True, answer=answer)
    assert NetworkRules(host, SCRIPT).keep() is (taken == "by nobody")
    assert ran == does


@pytest.mark.parametrize(
    ("noted", "put_back"),
    [
        ('{"pid": 812, "asking": true}', True),
        ('{"pid": 812}', False),
        ('{"pid": 812, "asking": false}', False),
        ('{"pid": 700, "asking": true}', False),
        ("", False),
        ("[]", False),
    ],
    ids=["asks", "changes", "has asked", "of a killed run", "empty", "another form"],
)
def test_rules_are_put_back_while_a_run_of_nqr_only_asks(noted: str, put_back: bool) -> None:
    """Nobody knows how long a question stays without an answer, and guests would reach the host meanwhile."""
    host = FakeHost.debian12()
    host.install(SCRIPT)
    host.put(SCRIPT, "", mode=0o755)
    host.put(LOCK_FILE, noted.ljust(4096))
    stat = host.stat(LOCK_FILE)
    assert stat is not None
    host.put_directory("/proc/812/fd")
    host.symlink(LOCK_FILE, "/proc/812/fd/3")
    host.put("/proc/locks", f"1: FLOCK  ADVISORY  WRITE 812 08:01:{stat.inode} 0 EOF\n")
    host.on(SCRIPT, prefix=True, answer=lambda host, cmd: Completed(cmd.argv, 1 if cmd.argv[1] == "check" else 0, "", ""))
    assert NetworkRules(host, SCRIPT).keep() is put_back


def record(number: int, asked: str = "run", ip: str | None = "") -> Any:
    address = f"10.0.0.{number}" if ip == "" else ip
    return SimpleNamespace(id=f"vm{number}", ip=address, mac=f"06:4e:00:00:00:{number:02x}", asked=asked, tap=f"tap{number}")


def test_only_vms_that_are_to_run_have_an_address_to_send_from() -> None:
    found = rules("fcbr0", [record(20), record(22, ip=None)])
    assert [" ".join(rule) for rule in found] == [
        "-s 0.0.0.0/32 -i fcbr0 -p udp -m udp --sport 68 --dport 67 -j RETURN",
        "-s 10.0.0.20/32 -i fcbr0 -m mac ! --mac-source 06:4e:00:00:00:14 -j DROP",
        "! -s 10.0.0.20/32 -i fcbr0 -m mac --mac-source 06:4e:00:00:00:14 -j DROP",
    ]
    assert rules("fcbr0", []) == []


def test_a_vm_asks_for_an_address_in_its_own_name_and_not_without_end() -> None:
    asks = "-i fcbr0 -p udp -m udp --dport 67 -m mac --mac-source 06:4e:00:00:00:14"
    ip = "0x0>>0x16&0x3c"
    assert [" ".join(rule) for rule in asking("fcbr0", [record(20)])] == [
        f"{asks} -m u32 ! --u32 {ip}@0x24=0x64e0000&&{ip}@0x28>>0x10=0x14 -j DROP",
        f"{asks} -m hashlimit --hashlimit-above 10/sec --hashlimit-burst 30 --hashlimit-name nqr-00000014 -j DROP",
    ]


def test_a_kernel_that_cannot_tie_addresses_to_macs_drops_packets_of_taps_all_the_same() -> None:
    host, given = FakeHost.debian12(), list[str]()

    def refuses(host: FakeHost, cmd: Command) -> Completed:
        given.append(bytes(cmd.input or b"").decode())
        if "mac" in given[-1]:
            raise CommandFailed(cmd.argv, 2, "Couldn't load match `mac'")
        return Completed(cmd.argv, 0, "", "")

    host.on("iptables", prefix=True)
    host.on("iptables-restore", prefix=True, answer=refuses)
    sources = Sources(host, "fcbr0", lambda: [record(20)])
    assert sources.sync() is True and "mac" in sources.lacking
    assert "-A NQR-SOURCE -i tap20 -j DROP" in given[-1]


@pytest.mark.parametrize("lack", ["table", "match"])
def test_a_kernel_that_cannot_tie_addresses_to_macs_is_told_and_goes_on(lack: str) -> None:
    host = FakeHost.debian12()
    host.on("iptables", prefix=True, answer=CommandFailed(("iptables",), 3, "no table") if lack == "table" else "")
    host.on("iptables-restore", prefix=True, answer=CommandFailed(("iptables-restore",), 2, "Couldn't load match `mac'"))
    sources = Sources(host, "fcbr0", lambda: [record(20)])
    assert sources.sync() is False and sources.lacking


def test_guests_together_begin_few_connections_to_a_port_of_the_platform() -> None:
    few = "--tcp-flags FIN,SYN,RST,ACK SYN -m hashlimit --hashlimit-above 10/sec --hashlimit-burst 20 --hashlimit-mode dstip"
    assert [" ".join(rule) for rule in beginning("fcbr0", {19090, 18080})] == [
        f"-i fcbr0 -p tcp -m tcp --dport {port} {few} --hashlimit-name nqr-{port} -j DROP" for port in (18080, 19090)
    ]


@pytest.mark.parametrize(
    ("manager", "ports"),
    [
        ("http://localhost:18080", {18080, 19091}),
        ("https://manager.example:8443", {8443, 19091}),
        ("https://manager.example", {19091}),
        ("http://manager.example:80", {19091}),
    ],
)
def test_ports_of_the_platform_elsewhere_come_from_the_settings(manager: str, ports: set[int]) -> None:
    assert Settings(manager_base=manager, bind=("0.0.0.0", 19091)).peers_ports == ports


def test_a_kernel_that_cannot_look_into_requests_ties_addresses_to_macs_all_the_same() -> None:
    host = FakeHost.debian12()
    given = []

    def refuses(host: FakeHost, cmd: Command) -> Completed:
        given.append(bytes(cmd.input or b"").decode())
        if "u32" in given[-1]:
            raise CommandFailed(cmd.argv, 2, "Couldn't load match `u32'")
        return Completed(cmd.argv, 0, "", "")

    host.on("iptables", prefix=True)
    host.on("iptables-restore", prefix=True, answer=refuses)
    sources = Sources(host, "fcbr0", lambda: [record(20)])
    assert sources.sync() is True and "u32" in sources.lacking
    assert "10.0.0.20/32" in given[-1] and "u32" not in given[-1]
    assert len(given) == 2, "each form is tried once"


@pytest.mark.parametrize("netfilter", [True, False])
def test_what_a_guest_sends_to_all_is_tracked_nowhere(netfilter: bool) -> None:
    host, given, looks = FakeHost.debian12(), dict[str, str](), list[Command]()

    def looked(host: FakeHost, cmd: Command) -> str:
        looks.append(cmd)
        return ""

    def takes(host: FakeHost, cmd: Command) -> Completed:
        given[cmd.argv[0]] = bytes(cmd.input or b"").decode()
        return Completed(cmd.argv, 0, "", "")

    for program in ("iptables", "ip6tables"):
        host.install(program)
        host.on(program, prefix=True)
        host.on(f"{program}-restore", prefix=True, answer=takes)
        if netfilter:
            host.put(f"/proc/sys/net/bridge/bridge-nf-call-{program}", "1\n")
    sources = Sources(host, "fcbr0", lambda: [record(20)])
    assert sources.sync() is True and sources.lacking == ""
    assert ("-i fcbr0 -m pkttype --pkt-type broadcast -j CT --notrack" in given["iptables-restore"]) is netfilter
    assert ("-i fcbr0 -j CT --notrack" in given.get("ip6tables-restore", "")) is netfilter
    assert "-m u32" in given["iptables-restore"], "the other rules are there in any case"
    host.on("ip6tables", prefix=True, answer=looked)
    sources.sync()
    assert bool(looks) is netfilter, "a start of a VM waits for no program in vain"


def test_a_kernel_that_tracks_everything_keeps_the_other_rules() -> None:
    host, given = FakeHost.debian12(), list[str]()

    def refuses(host: FakeHost, cmd: Command) -> Completed:
        given.append(bytes(cmd.input or b"").decode())
        if "CT" in given[-1]:
            raise CommandFailed(cmd.argv, 2, "Couldn't load target `CT'")
        return Completed(cmd.argv, 0, "", "")

    host.put("/proc/sys/net/bridge/bridge-nf-call-iptables", "1\n")
    host.on("iptables", prefix=True)
    host.on("iptables-restore", prefix=True, answer=refuses)
    sources = Sources(host, "fcbr0", lambda: [record(20)])
    assert sources.sync() is True and "CT" in sources.lacking
    assert "u32" in given[-1] and "10.0.0.20/32" in given[-1]
