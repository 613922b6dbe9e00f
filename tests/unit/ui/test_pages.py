"""The pages' handling of the manager's answers, before anything is drawn."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from nqrust.client.errors import Refused
from nqrust.contract.auth import Role
from nqrust.contract.hosts import Host, HostCapacity, HostNetwork, HostState
from nqrust.contract.images import Image
from nqrust.contract.problem import Problem
from nqrust.contract.vms import DesiredState, GuestReport, RateLimits, Vm, VmCreate, VmLimits, VmState
from nqrust.ui.fields import lines, words
from nqrust.ui.forms import complaint
from nqrust.ui.pages import images
from nqrust.ui.pages.dashboard import Overview, _counts, attention, room
from nqrust.ui.pages.vm_attachments import describe_rates
from nqrust.ui.pages.vm_detail import describe
from nqrust.ui.pages.vms import row
from nqrust.ui.parts import explain
from nqrust.ui.remaining import Remaining
from nqrust.ui.session import SignedIn
from nqrust.ui.tables import button
from nqrust.ui.vm_actions import possible

NOW = datetime.now(timezone.utc)


def vm(state: VmState = VmState.running, **more: object) -> Vm:
    return Vm.model_validate(
        {
            "id": "v1",
            "name": "web1",
            "state": state,
            "desired_state": DesiredState.running,
            "mac": "06:4e:00:00:00:01",
            "image": "tiny",
            "vcpus": 2,
            "memory_mib": 512,
            "disk_mib": 32,
            "created_at": NOW,
            "tap": "tap1",
            **more,
        }
    )


def host(state: HostState = HostState.online, accel: str = "kvm") -> Host:
    return Host(
        id="h1",
        name="kvm1",
        state=state,
        url="http://192.0.2.1:19090",
        version="1",
        boot_id="b",
        vmm="qemu",
        accel=accel,
        kvm=True,
        created_at=NOW,
        last_seen_at=NOW - timedelta(seconds=70),
        capacity=HostCapacity(cpus=8, memory_mib=1000, memory_available_mib=250, disk_mib=100, disk_available_mib=50),
        network=HostNetwork(bridge="fcbr0"),
    )


@pytest.mark.parametrize(
    ("state", "verbs"),
    [
        (VmState.running, {"stop", "restart", "pause", "delete"}),
        (VmState.stopped, {"start", "delete"}),
        (VmState.failed, {"start", "delete"}),
        (VmState.paused, {"resume", "stop", "delete"}),
        (VmState.stopping, {"force-stop", "delete"}),
        (VmState.starting, {"stop", "restart", "delete"}),
        (VmState.unknown, {"delete"}),
        (VmState.deleting, set()),
        (VmState.pending, {"delete"}),
    ],
)
def test_vm_state_decides_the_available_actions(state: VmState, verbs: set[str]) -> None:
    assert possible(vm(state)) == verbs


def test_vm_row_shows_size_address_and_host() -> None:
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


def test_overview_lists_what_needs_attention() -> None:
    quiet = Overview([vm()], [host()], [])
    assert attention(quiet) == []
    loud = Overview([vm(VmState.failed, error="Out of disk.")], [host(HostState.offline), host(accel="tcg")], [])
    assert [tone for tone, _, _ in attention(loud)] == ["bad", "bad", "calm"]
    assert "Out of disk." in attention(loud)[1][1]
    waits = vm(VmState.stopped, desired_state=DesiredState.running, error="Its disk is not on its host.")
    assert attention(Overview([waits], [host()], [])) == [
        ("bad", "VM web1 does not run: Its disk is not on its host.", "/vms/web1")
    ]
    silent = Overview([], [host(HostState.degraded)], [])
    assert re.fullmatch(r"Host \S+ was last seen .+ ago\.", attention(silent)[0][1])
    two = host(HostState.offline).model_copy(update={"conflict": "Two machines report as host kvm1."})
    assert attention(Overview([], [two], [])) == [("bad", "Two machines report as host kvm1.", "/hosts")]


@pytest.mark.parametrize(
    ("hosts", "told"),
    [([], "no host takes VMs"), ([host(HostState.offline)], "no host takes VMs"), ([host()], "all take new VMs")],
)
def test_the_count_of_hosts_says_whether_they_take_vms(hosts: list[Host], told: str) -> None:
    assert _counts(Overview([], hosts, []))["Hosts"][2] == told


def test_room_counts_what_is_up_on_hosts_that_are_there() -> None:
    data = Overview([vm(), vm(VmState.stopped)], [host(), host(HostState.offline)], [])
    assert [(used, whole) for _, used, whole, _ in room(data)] == [(2, 8), (750, 1000), (50, 100)]
    assert [whole for _, _, whole, _ in room(Overview([], [], []))] == [0, 0, 0]


def test_roles_include_those_below() -> None:
    operator = SignedIn("t", "olga", Role.operator)
    assert operator.may(Role.viewer) and operator.may(Role.operator) and not operator.may(Role.admin)


def test_validation_error_names_the_field() -> None:
    with pytest.raises(ValidationError) as caught:
        VmCreate(name="web1", image="tiny", memory_mib=1)
    assert complaint(caught.value) == "memory mib: it must be at least 64"


def test_an_error_is_told_with_its_cure_and_code() -> None:
    said = Refused(409, Problem(title="no", status=409, detail="Port 80 is taken.", code="NQR-API-121", cure="Choose another."))
    assert explain(said) == "Port 80 is taken. Choose another. (NQR-API-121)"
    assert explain(Refused(502, Problem(title="Bad gateway", status=502))) == "Bad gateway. (NQR-API-199)"


def test_vm_facts_show_limits_accounts_and_tags() -> None:
    found = dict(describe(vm(limits=VmLimits(memory_mib=608, cpu_percent=250, tasks=256), users=["ann"], tags=["web", "db"])))
    assert (found["Limits"], found["Accounts"], found["Tags"]) == ("608 MiB memory, 2.5 CPUs, 256 tasks", "ann", "web, db")
    assert dict(describe(vm(limits=VmLimits())))["Limits"] == "–"


def test_rate_limits_in_units_people_think_in() -> None:
    found = dict(describe_rates(RateLimits(net_rx_kbit=1500, disk_kib=512, disk_iops=100)))
    assert found == {
        "Network in": "1.5 Mbit/s",
        "Network out": "not limited",
        "Each disk": "0.5 MiB/s",
        "Operations": "100 per second",
    }


def image(**more: object) -> Image:
    blob = {"file": "rootfs", "size": 32 << 20, "sha256": "0" * 64}
    manifest = {"name": "tiny", "rootfs": blob, "kernel": blob, "created_at": NOW}
    return Image.model_validate(
        {
            "id": "i1",
            "name": "tiny",
            "arch": "x86_64",
            "size": 32 << 20,
            "sha256": "0" * 64,
            "state": "ready",
            "min_memory_mib": 96,
            "min_disk_mib": 32,
            "created_at": NOW,
            "manifest": manifest,
            **more,
        }
    )


def test_a_download_in_percent() -> None:
    found = images.row(image(state="downloading", download={"done": 10 << 20, "total": 40 << 20}), Remaining())
    assert (found["fetched"], found["fetched_text"], found["tone"]) == (25, "10 MiB of 40 MiB", "busy")
    assert images.row(image(state="corrupt", error="kernel is short"), Remaining())["error"] == "kernel is short"
    assert images.row(image(), Remaining())["fetched"] is None
    assert images.row(image(download={"done": 0, "total": 0}), Remaining())["fetched"] == 0


def test_vm_search_covers_the_visible_columns() -> None:
    found = row(vm(ip="10.0.0.10", tags=["blue"], host="kvm1"))
    assert found["find"] == "web1 running 10.0.0.10 tiny kvm1 blue"


def test_comma_and_line_lists_are_split() -> None:
    assert words(" web, test,, ") == ["web", "test"] and words(None) == []
    assert lines("a b\n\n  c \n") == ["a b", "c"] and lines(None) == []


def test_row_buttons_are_named_for_the_row() -> None:
    made = button("stop", "Stop", "stop", "name")
    assert ":aria-label=\"'Stop ' + props.row.name\"" in made and "$emit('stop', props.row.name)" in made
