"""Two hosts lose their network, drain and reboot. Each VM keeps running once, on its own host."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from nqrust.client import calls
from nqrust.client.errors import Refused
from nqrust.contract.hosts import HostState
from nqrust.contract.vms import StopRequest, Vm, VmCreate
from tests.hosts import product, warm
from tests.hosts.chaos import Patient, Witness, differences, open_operations, there
from tests.hosts.machine import Machine, TestNetwork
from tests.hosts.product import eventually

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(2400)]

MEMORY = 96  # MiB
NOW = StopRequest(force=True)


@dataclass
class Pair:
    """`first` has the manager and an agent, `second` an agent."""

    first: Machine
    second: Machine
    patient: Patient
    witness: Witness
    calm: dict[str, Vm] = field(default_factory=dict)
    """VMs that nobody asks for anything, as they were when they came up."""

    def create(self, name: str, host: Machine | None, *, start: bool = True, autostart: bool = True) -> Vm:
        wanted = VmCreate(
            name=name, image="tiny", memory_mib=MEMORY, start=start, autostart=autostart, host=host.name if host else None
        )
        made: Vm = self.patient.ask(
            lambda: self.patient.client.send(calls.create_vm(wanted, idempotency_key=f"cut-{name}-{time.time()}"))
        )[0]
        return made

    def up(self, name: str) -> Vm:
        """The VM once its guest has reported."""
        found = self.patient.client.wait_for(name, "guest_up", timeout=240)
        assert found is not None
        return found

    def vm(self, name: str) -> Vm:
        return self.patient.client.send(calls.get_vm(name))

    def state(self, host: Machine) -> HostState:
        return self.patient.client.send(calls.get_host(host.name)).state

    def wrong(self) -> list[str]:
        """What differs from what is wanted, on both hosts."""
        vms = self.patient.vms()
        found = [
            f"{host.name}: {what}"
            for host in (self.first, self.second)
            for what in differences([vm for vm in vms if vm.host == host.name], there(host))
        ]
        found += [f"{vm.name} is on no host" for vm in vms if vm.host is None]
        unfinished = open_operations(self.first)
        return found + ([f"{unfinished} operations are open"] if unfinished else [])

    def at_rest(self, within: float) -> float:
        """Wait until nothing differs; seconds that it took."""
        began = time.monotonic()
        while wrong := self.wrong():
            assert time.monotonic() - began < within, "\n".join(wrong)
            time.sleep(1.0)
        return time.monotonic() - began

    def places(self, vm: Vm) -> set[str]:
        """Hosts that ever ran it."""
        return {process[0] for process in self.witness.seen.get(vm.id, {})}

    def still_calm(self) -> None:
        for name, vm in self.calm.items():
            now = self.vm(name)
            assert (now.boot_id, now.started_at, now.host) == (vm.boot_id, vm.started_at, vm.host), name
            assert self.witness.starts(vm.id) == 1, name

    def reasons(self, subject: str) -> list[str]:
        return [event.reason for event in self.patient.client.send(calls.list_events(subject=subject, limit=200)).items]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with TestNetwork() as network, Machine(network=network) as first, Machine(network=network) as second:
        for host in (first, second):
            product.clone(host)
            warm.fill(host)
        product.bootstrap(first, "--mode", "minimal", "--non-interactive")
        token = product.nqr(first, "host", "token", second.name).stdout.strip()
        second.write("/run/join-token", f"{token}\n", mode=0o600)
        url = f"http://{first.address}:18080"
        product.bootstrap(
            second, "--mode", "agent", "--manager-url", url, "--join-token-file", "/run/join-token", "--non-interactive"
        )
        witness = Witness(first, second)
        witness.start()
        try:
            yield Pair(first, second, Patient(first), witness)
        finally:
            witness.stop()


def test_requests_during_a_one_minute_cut_are_done_once_afterwards(pair: Pair) -> None:
    """The manager runs requests made during the cut once, after it. Other VMs keep running."""
    client = pair.patient.client
    for name, host in (("here", pair.first), ("there", pair.second)):
        pair.create(f"calm-{name}", host)
    for name in ("stop", "delete", "force", "restart", "pause"):
        pair.create(name, pair.second)
    pair.create("start", pair.second, start=False)
    before = {name: pair.up(name) for name in ("stop", "delete", "force", "restart", "pause")}
    pair.calm = {name: pair.up(name) for name in ("calm-here", "calm-there")}
    eventually("it is made", lambda: pair.vm("start").state.value == "stopped", 60)
    before["start"] = pair.vm("start")

    pair.second.cut_network()
    cut = time.monotonic()
    client.send(calls.stop_vm("stop", NOW))
    client.send(calls.restart_vm("restart", NOW))
    client.send(calls.pause_vm("pause"))
    client.send(calls.start_vm("start"))
    client.send(calls.delete_vm("delete"))
    client.send(calls.delete_vm("force", force=True))
    pair.create("meanwhile", pair.first)
    eventually("it is degraded", lambda: pair.state(pair.second) is HostState.degraded, 60)
    print(f"degraded {time.monotonic() - cut:.0f} s after the cut")
    assert pair.state(pair.first) is HostState.online
    pair.create("late", None)
    assert pair.up("late").host == pair.first.name, "a host that does not answer gets nothing new"
    assert pair.up("meanwhile").host == pair.first.name
    assert pair.vm("calm-there").state.value == "running", "nothing is said of it before its host is offline"
    assert {name for name, vm in before.items() if vm.id in pair.witness.look()} == {
        "stop",
        "delete",
        "force",
        "restart",
        "pause",
    }
    eventually("a forced delete does not wait", lambda: _gone(pair, "force"), 60)
    time.sleep(max(0.0, 60 - (time.monotonic() - cut)))

    pair.second.join_network()
    print(f"the cut lasted {time.monotonic() - cut:.0f} s; at rest {pair.at_rest(400):.0f} s after it")
    eventually("its next heartbeat arrives", lambda: pair.state(pair.second) is HostState.online, 60)
    assert {"HostDegraded", "HostOnline"} <= set(pair.reasons(pair.second.name))
    assert "HostOffline" not in pair.reasons(pair.second.name)
    assert [pair.vm(name).state.value for name in ("stop", "restart", "pause", "start")] == [
        "stopped",
        "running",
        "paused",
        "running",
    ]
    assert _gone(pair, "delete")
    assert pair.vm("pause").boot_id == before["pause"].boot_id
    starts = {name: pair.witness.starts(vm.id) for name, vm in before.items()}
    assert starts == {"stop": 1, "delete": 1, "force": 1, "restart": 2, "pause": 1, "start": 1}
    assert all(pair.places(vm) == {pair.second.name} for vm in before.values())
    assert pair.witness.doubles == []
    pair.still_calm()


def _gone(pair: Pair, name: str) -> bool:
    try:
        pair.vm(name)
    except Refused as refused:
        return refused.status == 404
    return False


def test_host_is_offline_after_five_minutes_and_its_vms_start_nowhere_else(pair: Pair) -> None:
    wanted = {vm.name: vm.desired_state.value for vm in pair.patient.vms()}
    before = {vm_id: pair.witness.starts(vm_id) for vm_id in pair.witness.seen}
    pair.second.cut_network()
    cut = time.monotonic()
    eventually("it is offline", lambda: pair.state(pair.second) is HostState.offline, 400)
    print(f"offline {time.monotonic() - cut:.0f} s after the cut")
    running = [vm.name for vm in pair.patient.vms() if vm.host == pair.second.name and vm.desired_state.value != "stopped"]
    eventually("its VMs are unknown", lambda: {pair.vm(name).state.value for name in running} == {"unknown"}, 30)
    assert pair.vm("stop").state.value == "stopped"
    assert pair.vm("calm-here").state.value == "running"
    assert {name: pair.vm(name).desired_state.value for name in wanted} == wanted
    shown = product.document(pair.first, "host", "ls")["items"]
    assert {host["name"]: host["state"] for host in shown} == {pair.first.name: "online", pair.second.name: "offline"}

    pair.second.join_network()
    print(f"at rest {pair.at_rest(200):.0f} s after it came back")
    assert {vm_id: pair.witness.starts(vm_id) for vm_id in pair.witness.seen} == before, "nothing was started"
    assert pair.witness.doubles == []
    pair.still_calm()


def test_cordoned_host_gets_no_new_vms(pair: Pair) -> None:
    client = pair.patient.client
    client.send(calls.cordon_host(pair.second.name))
    pair.create("elsewhere", None)
    assert pair.up("elsewhere").host == pair.first.name
    with pytest.raises(Refused, match="is cordoned"):
        pair.create("refused", pair.second)
    client.send(calls.stop_vm("start", NOW))
    client.wait_for("start", "stopped", timeout=60)
    client.send(calls.start_vm("start"))
    assert pair.up("start").host == pair.second.name, "those that live there may"
    client.send(calls.delete_vm("elsewhere"))
    client.send(calls.uncordon_host(pair.second.name))
    pair.at_rest(60)
    pair.still_calm()


def test_a_drain_empties_a_host_and_uncordon_fills_it_again(pair: Pair) -> None:
    client = pair.patient.client
    pair.create("manual", pair.second, autostart=False)
    pair.up("manual")
    client.send(calls.resume_vm("pause"))
    client.wait_for("pause", "running", timeout=30)
    began = time.monotonic()
    client.send(calls.drain_host(pair.second.name))
    there_now = [vm.name for vm in pair.patient.vms() if vm.host == pair.second.name]
    eventually("all of them stop", lambda: {pair.vm(name).state.value for name in there_now} == {"stopped"}, 180)
    print(f"{len(there_now)} VMs drained in {time.monotonic() - began:.0f} s")
    pair.at_rest(60)
    found = there(pair.second)
    assert (found.scopes, found.vmms, found.taps) == ([], {}, {})
    assert {pair.vm(name).host for name in there_now} == {pair.second.name}, "disks are local: VMs do not move"
    pair.create("new", None)
    assert pair.up("new").host == pair.first.name
    client.send(calls.delete_vm("new"))

    client.send(calls.uncordon_host(pair.second.name))
    for name in ("calm-there", "restart", "pause", "start"):
        pair.up(name)
    pair.at_rest(60)
    assert {name: pair.vm(name).state.value for name in ("manual", "stop")} == {"manual": "stopped", "stop": "stopped"}
    # It was asked to stop by the drain; from here on it is calm again.
    drained = pair.calm.pop("calm-there")
    assert pair.witness.starts(drained.id) == 2
    pair.still_calm()


@pytest.mark.parametrize("how", ["reboot", "power_cut"])
def test_a_rebooted_host_starts_its_autostart_vms_and_no_others(pair: Pair, how: str) -> None:
    client = pair.patient.client
    client.send(calls.start_vm("manual"))
    pair.up("manual")
    before = {vm.name: vm for vm in pair.patient.vms()}
    starts = {name: pair.witness.starts(vm.id) for name, vm in before.items()}
    began = time.monotonic()
    getattr(pair.second, how)()
    back = ("calm-there", "restart", "pause", "start")
    eventually(
        "they are up again",
        lambda: all(pair.vm(name).boot_id not in (None, before[name].boot_id) for name in back), 240,
    )  # fmt: skip
    pair.at_rest(120)
    print(f"{how}: all is back {time.monotonic() - began:.0f} s after it began")
    more = {name: pair.witness.starts(vm.id) - starts[name] for name, vm in before.items()}
    assert {name for name, number in more.items() if number == 1} == set(back)
    assert {name for name, number in more.items() if number > 1} == set()
    manual = pair.vm("manual")
    assert (manual.state.value, manual.desired_state.value) == ("stopped", "stopped")
    assert "VmAutostart" in pair.reasons("start") and "VmAutostart" not in pair.reasons("manual")
    assert [name for name in before if "VmDied" in pair.reasons(name)] == [], "ended by the shutdown is not died"
    # A disk that no guest has unmounted has a journal to replay: only the one of a host without power.
    features = pair.second.run(["dumpe2fs", "-h", f"/srv/fc/vms/{manual.id}/disk.ext4"]).stdout
    assert ("needs_recovery" in features) == (how == "power_cut"), features
    assert pair.witness.doubles == []
    pair.still_calm()


@pytest.mark.parametrize("how", ["reboot", "power_cut"])
def test_the_managers_own_host_comes_back_with_its_vms(pair: Pair, how: str) -> None:
    """The other host's VMs do not notice."""
    here = pair.vm("calm-here")
    there_before = {vm.name: vm for vm in pair.patient.vms() if vm.host == pair.second.name}
    starts = {name: pair.witness.starts(vm.id) for name, vm in there_before.items()}
    getattr(pair.first, how)()
    eventually(
        "it is up again", lambda: pair.patient.ask(lambda: pair.vm("calm-here"))[0].boot_id not in (None, here.boot_id), 240
    )
    pair.at_rest(120)
    pair.calm.pop("calm-here", None)
    for name, vm in there_before.items():
        assert pair.vm(name).boot_id == vm.boot_id, name
    assert {name: pair.witness.starts(vm.id) for name, vm in there_before.items()} == starts
    assert pair.witness.doubles == []
