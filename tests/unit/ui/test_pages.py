"""What pages make of the manager's answers, before anything is drawn."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from nqrust.contract.api.auth import Role
from nqrust.contract.api.hosts import Host, HostCapacity, HostNetwork, HostState
from nqrust.contract.api.vms import DesiredState, GuestReport, Vm, VmCreate, VmState
from nqrust.ui.fields import complaint
from nqrust.ui.pages.dashboard import Overview, attention, room
from nqrust.ui.pages.vm_detail import describe
from nqrust.ui.pages.vms import row
from nqrust.ui.session import SignedIn
from nqrust.ui.tables import button
from nqrust.ui.vm_actions import possible

NOW = datetime.now(timezone.utc)


def vm(state: VmState = VmState.running, **more: object) -> Vm:
    return Vm.model_validate({
        "id": "v1", "name": "web1", "state": state, "desired_state": DesiredState.running, "mac": "06:4e:00:00:00:01",
        "image": "tiny", "vcpus": 2, "memory_mib": 512, "disk_mib": 32, "created_at": NOW, "tap": "tap1", **more})


def host(state: HostState = HostState.online, accel: str = "kvm") -> Host:
    return Host(id="h1", name="kvm1", state=state, url="http://192.0.2.1:19090", version="1", boot_id="b", vmm="qemu",
                accel=accel, kvm=True, created_at=NOW, last_seen_at=NOW - timedelta(seconds=70),
                capacity=HostCapacity(cpus=8, memory_mib=1000, memory_available_mib=250, disk_mib=100, disk_available_mib=50),
                network=HostNetwork(bridge="fcbr0"))


@pytest.mark.parametrize(("state", "verbs"), [
    (VmState.running, {"stop", "restart", "pause", "delete"}), (VmState.stopped, {"start", "delete"}),
    (VmState.failed, {"start", "delete"}), (VmState.paused, {"resume", "stop", "delete"}),
    (VmState.stopping, {"force-stop", "delete"}), (VmState.starting, {"stop", "restart", "delete"}),
    (VmState.unknown, {"delete"}), (VmState.deleting, set()), (VmState.pending, {"delete"}),
])
def test_what_can_be_done(state: VmState, verbs: set[str]) -> None:
    assert possible(vm(state)) == verbs


def test_a_row() -> None:
    found = row(vm(ip="10.0.0.10"))
    assert (found["size"], found["ip"], found["host"], found["tone"]) == ("2 vCPUs, 512 MiB", "10.0.0.10", "–", "good")


def test_facts_of_a_vm_without_and_with_a_guest() -> None:
    before = dict(describe(vm()))
    assert (before["Guest agent"], before["Gateway"], before["Host"]) == ("has not reported yet", "–", "not placed yet")
    guest = GuestReport(ip="10.0.0.10", boot_id="b", uptime_seconds=65, gateway="10.0.0.1", gateway_reachable=None)
    after = dict(describe(vm(guest=guest, guest_up_at=NOW)))
    assert after["Guest agent"] == "up 1 min"
    assert after["Gateway"] == "10.0.0.1, not known whether it is reached"
    assert list(before) == list(after), "the facts are brought up to date in place"


def test_what_needs_attention() -> None:
    quiet = Overview([vm()], [host()], [])
    assert attention(quiet) == []
    loud = Overview([vm(VmState.failed, error="Out of disk.")], [host(HostState.offline), host(accel="tcg")], [])
    assert [tone for tone, _, _ in attention(loud)] == ["bad", "bad", "calm"]
    assert "Out of disk." in attention(loud)[1][1]


def test_room_counts_what_is_up_on_hosts_that_are_there() -> None:
    data = Overview([vm(), vm(VmState.stopped)], [host(), host(HostState.offline)], [])
    assert [(used, whole) for _, used, whole, _ in room(data)] == [(2, 8), (750, 1000), (50, 100)]
    assert [whole for _, _, whole, _ in room(Overview([], [], []))] == [0, 0, 0]


def test_roles_include_those_below() -> None:
    operator = SignedIn("t", "olga", Role.operator)
    assert operator.may(Role.viewer) and operator.may(Role.operator) and not operator.may(Role.admin)


def test_a_complaint_names_the_field() -> None:
    with pytest.raises(ValidationError) as caught:
        VmCreate(name="web1", image="tiny", memory_mib=1)
    assert complaint(caught.value) == "memory mib: Input should be greater than or equal to 64"


def test_row_buttons_are_named_for_the_row() -> None:
    made = button("stop", "Stop", "stop", "name")
    assert ":aria-label=\"'Stop ' + props.row.name\"" in made and "$emit('stop', props.row.name)" in made
