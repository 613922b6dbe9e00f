"""The tests kill agent, manager, dnsmasq and PostgreSQL while a client changes VMs. Every VM ends in its desired state.

NQR_CHAOS_SEED repeats the requests of a run (not their times). NQR_CHAOS_OPERATIONS sets their number.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest

from nqrust.client import calls
from nqrust.client.errors import Refused
from nqrust.contract.vms import StopRequest, Vm, VmCreate
from tests.hosts import product
from tests.hosts.chaos import Killer, Patient, Witness, differences, open_operations, there
from tests.hosts.machine import Machine
from tests.hosts.ready import Ready

pytestmark = pytest.mark.timeout(3600)

MEMORY = 96  # MiB, the least that the image takes
HEALED_WITHIN = 600.0  # seconds
AT_REST = 15.0  # seconds, three looks of the reconciler
SENSIBLE = {
    "absent": ("create",),
    "running": ("stop", "stop", "pause", "pause", "restart", "restart", "delete"),
    "paused": ("resume", "resume", "restart", "stop", "delete"),
    "stopped": ("start", "start", "start", "restart", "delete"),
}
BECOMES = {
    "create": "running", "start": "running", "restart": "running", "resume": "running", "stop": "stopped",
    "pause": "paused", "delete": "absent",
}  # fmt: skip


@dataclass
class Asked:
    """What was asked of one VM. `starts`: requests that may have started it, each try counted; `since`: those from the
    last request on that ends it, which came at `ended_at`. `restarted`: that one was a restart, and nothing came after."""

    starts: int = 0
    since: int = 0
    ended_at: float = 0.0
    restarted: bool = False


@dataclass
class Wishes:
    """A client's random requests about the VMs `vm0` ... . `wanted`: what it was last granted."""

    patient: Patient
    chance: random.Random
    names: int
    wanted: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    asked: dict[str, Asked] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)

    def one(self) -> None:
        name = f"vm{self.chance.randrange(self.names)}"
        before = self.wanted.get(name, "absent")
        kind = self.chance.choice(SENSIBLE[before] if self.chance.random() < 0.9 else tuple(BECOMES))
        becomes = "stopped" if kind == "create" and self.chance.random() < 0.1 else BECOMES[kind]
        self.kinds[kind] += 1
        began = time.time()
        try:
            tries = self._ask(kind, name, becomes)
        except Refused as refused:
            assert refused.status in (404, 409, 422), (kind, refused)
            if kind == "delete" and refused.status == 404:
                self.wanted[name] = "absent"  # an earlier try was heard, its answer lost
            return
        self.wanted[name] = becomes
        asked = self.asked.setdefault(self.ids[name], Asked())
        if kind in ("stop", "restart", "delete"):
            asked.ended_at, asked.since = began, 0
        if kind in ("create", "start", "restart"):
            asked.starts += tries
            asked.since += tries
        asked.restarted = kind == "restart"

    def _ask(self, kind: str, name: str, becomes: str) -> int:
        """Number of tries it took."""
        client = self.patient.client
        stop = StopRequest(force=self.chance.random() < 0.5, timeout_seconds=self.chance.choice((0, 2, 5)))
        key = f"chaos-{self.chance.getrandbits(64):x}"
        if kind == "create":
            wanted = VmCreate(name=name, image="tiny", memory_mib=MEMORY, start=becomes == "running")
            made, tries = self.patient.ask(lambda: client.send(calls.create_vm(wanted, idempotency_key=key)))
            self.ids[name] = made.id
            return tries
        if kind in ("stop", "restart"):
            return self.patient.ask(lambda: client.send(getattr(calls, f"{kind}_vm")(name, stop)))[1]
        return self.patient.ask(lambda: client.send(getattr(calls, f"{kind}_vm")(name)))[1]


@pytest.fixture(scope="module")
def host(production: Ready) -> Machine:
    return production.host


def chaos(host: Machine, *, operations: int, names: int, calm: int, pause: tuple[float, float]) -> None:
    seed = int(os.environ.get("NQR_CHAOS_SEED", random.randrange(10**6)))
    print(f"NQR_CHAOS_SEED={seed}")
    patient, witness = Patient(host), Witness(host)
    _empty(host, patient)
    witness.start()
    quiet = _calm_ones(patient, calm)
    wishes = Wishes(patient, random.Random(seed), names)
    killer = Killer(host, seed, pause)
    killer.start()
    began = time.monotonic()
    try:
        while sum(wishes.kinds.values()) < operations or len(killer.kills) < 4:
            wishes.one()
            time.sleep(wishes.chance.uniform(0.0, 1.5))
    finally:
        killer.stop()
    lasted, healing = time.monotonic() - began, time.monotonic()
    _comes_to_rest(host, patient)
    healed = time.monotonic() - healing
    before = {vm_id: witness.starts(vm_id) for vm_id in witness.seen}
    time.sleep(AT_REST)
    witness.stop()
    assert _wrong(host, patient) == [], "it stays so"
    assert {vm_id: witness.starts(vm_id) for vm_id in witness.seen} == before

    print(f"{sum(wishes.kinds.values())} requests in {lasted:.0f} s: {dict(wishes.kinds)}")
    print(f"answers {dict(patient.answers)}, tried again after {dict(patient.retries)}")
    print(f"kills {dict(killer.kills)}; {sum(before.values())} VMMs of {len(before)} VMs; healed in {healed:.0f} s")
    assert patient.broken == []
    assert witness.doubles == [], "never two VMMs of one VM"
    left = {vm.id: vm for vm in patient.vms()}
    for vm in quiet:
        now = left[vm.id]
        assert (now.boot_id, now.started_at) == (vm.boot_id, vm.started_at), "nobody asked it to stop"
        assert witness.starts(vm.id) == 1, vm.name
    for name, wanted in wishes.wanted.items():
        found = [vm.desired_state.value for vm in left.values() if vm.name == name]
        assert found == ([] if wanted == "absent" else [wanted]), name
    for vm_id, asked in wishes.asked.items():
        again = witness.cut_short(vm_id, killer.of_agent)
        assert witness.starts(vm_id) <= asked.starts + again, "started only when somebody asked for it"
        since = witness.starts(vm_id, asked.ended_at)
        # One more where a start asked for before was still under way.
        assert asked.restarted <= since <= asked.since + again + 1, (vm_id, asked, since)
    died = [event for vm in left for event in patient.client.send(calls.vm_events(vm)).items if event.reason == "VmDied"]
    assert died == [], "killing services kills no VM"
    _empty(host, patient)


def _empty(host: Machine, patient: Patient) -> None:
    for vm in patient.vms():
        patient.client.send(calls.delete_vm(vm.id))
    product.eventually("all are gone", lambda: not patient.vms() and not _wrong(host, patient), 120)


def _calm_ones(patient: Patient, number: int) -> list[Vm]:
    """Running VMs that nobody will ask for anything."""
    for index in range(number):
        patient.client.send(calls.create_vm(VmCreate(name=f"calm{index}", image="tiny", memory_mib=MEMORY)))
    found = [patient.client.wait_for(f"calm{index}", "guest_up", timeout=180) for index in range(number)]
    return [vm for vm in found if vm is not None]


def _wrong(host: Machine, patient: Patient) -> list[str]:
    found = differences(patient.vms(), there(host))
    unfinished = open_operations(host)
    return found + ([f"{unfinished} operations are open"] if unfinished else [])


def _comes_to_rest(host: Machine, patient: Patient) -> None:
    deadline = time.monotonic() + HEALED_WITHIN
    while wrong := _wrong(host, patient):
        assert time.monotonic() < deadline, f"not healed within {HEALED_WITHIN:g} s:\n" + "\n".join(wrong)
        time.sleep(1.0)


def test_vms_reach_their_desired_state_after_some_kills(host: Machine) -> None:
    chaos(host, operations=40, names=3, calm=2, pause=(3.0, 6.0))


@pytest.mark.matrix
def test_vms_reach_their_desired_state_after_many_kills(host: Machine) -> None:
    chaos(host, operations=int(os.environ.get("NQR_CHAOS_OPERATIONS", "200")), names=8, calm=3, pause=(4.0, 14.0))
