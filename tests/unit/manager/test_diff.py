"""The reconciler's decisions: a table of situations, and properties that hold in all of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nqrust.contract.agent import Inventory, TapStatus, VmStatus
from nqrust.contract.hosts import HostState
from nqrust.contract.names import CANARY_PREFIX, CANARY_TAG
from nqrust.contract.vms import DesiredState, RestartPolicy, VmState
from nqrust.manager.vms import restarts
from nqrust.manager.work.diff import (
    Action,
    Adopt,
    Behind,
    Ended,
    FinishDelete,
    HostChanged,
    HostRow,
    LeaveDead,
    Observed,
    RemoveCanary,
    RemoveTap,
    Repeat,
    Restart,
    Unknown,
    UnknownTap,
    Unrecorded,
    Unusable,
    VmAction,
    VmRow,
    diff,
    only_seen,
    strangers,
)

NOW = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)
HOST = HostRow("h1", "h1", "boot-1", HostState.online, HostState.online)
D, S, P = DesiredState, VmState, RestartPolicy


def vm(desired: DesiredState = D.running, state: VmState = S.running, **more: Any) -> VmRow:
    return replace(VmRow("v1", "web1", "h1", desired, state, generation=3, host_boot_id="boot-1"), **more)


def seen(state: str = "running", vm_id: str = "v1", name: str = "web1", ago: float = 3600, **more: Any) -> VmStatus:
    started = NOW - timedelta(seconds=ago) if state in ("running", "paused") else None
    return VmStatus(id=vm_id, name=name, state=state, scope=f"fc-{vm_id}", started_at=started, disk=True, **more)


def inventory(*vms: VmStatus, taps: tuple[TapStatus, ...] = (), boot_id: str = "boot-1") -> dict[str, Inventory]:
    return {"h1": Inventory(host_id="h1", boot_id=boot_id, time=NOW, vms=list(vms), taps=list(taps), volumes=[])}


CANARY = CANARY_PREFIX + "17-4711"


def canary(**more: Any) -> VmStatus:
    return seen(name=CANARY, tags=[CANARY_TAG], **more)


FULL = {"exit_reason": "The disk of host h1 is full. The VM continues when there is room."}
CLEAN = {"exit_reason": "The guest powered off or rebooted."}
SITUATIONS: dict[str, tuple[list[VmRow], dict[str, Inventory], list[type]]] = {
    "as it should be": ([vm()], inventory(seen()), []),
    "stopped as it should be": ([vm(D.stopped, S.stopped)], inventory(seen("stopped")), []),
    "being created, no scope yet": ([vm(state=S.starting, busy=True)], inventory(), []),
    "being created, row without host": (
        [vm(state=S.pending, host_id=None, busy=True)],
        inventory(seen()),
        [],
    ),
    "being stopped": ([vm(D.stopped, S.stopping, busy=True)], inventory(seen()), []),
    "crashed": ([vm()], inventory(seen("failed")), [Restart]),
    "vanished altogether": ([vm()], inventory(), [Restart]),
    "crashed, never restarted": ([vm(policy=P.never)], inventory(seen("failed")), [LeaveDead]),
    "guest powered off": ([vm()], inventory(seen("stopped", **CLEAN)), [LeaveDead]),
    "guest rebooted": ([vm()], inventory(seen("stopped", exit_reason="The guest rebooted.", rebooted=True)), [Restart]),
    "guest rebooted, never": ([vm(policy=P.never)], inventory(seen("stopped", rebooted=True)), [LeaveDead]),
    "guest powered off, always": ([vm(policy=P.always)], inventory(seen("stopped", **CLEAN)), [Restart]),
    "host rebooted": ([vm()], inventory(seen("failed"), boot_id="boot-2"), [Restart]),
    "host rebooted, no autostart": ([vm(autostart=False)], inventory(boot_id="boot-2"), [LeaveDead]),
    "host rebooted, stopped VM": ([vm(D.stopped, S.stopped)], inventory(boot_id="boot-2"), []),
    "host is back, VM still runs": ([vm(state=S.unknown)], inventory(seen()), [Observed]),
    "host is back, VM is gone": ([vm(state=S.unknown)], inventory(), [Restart]),
    "was to stop, still runs": ([vm(D.stopped, S.stopped)], inventory(seen()), [Repeat]),
    "was to start, never did": ([vm(D.running, S.stopped)], inventory(seen("stopped")), [Repeat]),
    "was to go, still there": ([vm(D.deleted, S.failed)], inventory(seen()), [Repeat]),
    "was to go, failed just now": ([vm(D.deleted, S.failed, failed_at=NOW)], inventory(seen()), []),
    "was to go, failed before the clock went back": (
        [vm(D.deleted, S.failed, failed_at=NOW + timedelta(hours=1))],
        inventory(seen()),
        [Repeat],
    ),
    "given up with a reason": ([vm(state=S.failed)], inventory(seen("stopped")), []),
    "given up, then its host rebooted": ([vm(state=S.failed)], inventory(seen("failed"), boot_id="boot-2"), [Restart]),
    "given up, then rebooted, no autostart": ([vm(state=S.failed, autostart=False)], inventory(boot_id="boot-2"), []),
    "given up, then rebooted, disk not mounted": ([vm(state=S.failed, made=True)], inventory(boot_id="boot-2"), [Ended]),
    "given up in a boot that nobody noted": ([vm(state=S.failed, host_boot_id=None)], inventory(boot_id="boot-2"), []),
    "a volume's change was not done": ([vm(D.stopped, S.stopped, unsettled=True)], inventory(seen("stopped")), [Repeat]),
    "a volume's change failed just now": (
        [vm(D.stopped, S.stopped, unsettled=True, failed_at=NOW)],
        inventory(seen("stopped")),
        [],
    ),
    "a volume's change waits, and it runs": ([vm(unsettled=True)], inventory(seen()), []),
    "given up, a volume's change too": ([vm(state=S.failed, unsettled=True)], inventory(seen("stopped")), [Repeat]),
    "given up, but it runs": ([vm(state=S.failed)], inventory(seen()), [Observed]),
    "paused as wanted": ([vm(D.paused, S.paused)], inventory(seen("paused")), []),
    "paused, then gone": ([vm(D.paused, S.paused)], inventory(seen("failed")), [Restart]),
    "paused, then powered off": ([vm(D.paused, S.stopped)], inventory(seen("stopped", **CLEAN)), [LeaveDead]),
    "paused by somebody else": ([vm()], inventory(seen("paused")), [Repeat]),
    "its host's disk is full": ([vm()], inventory(seen("paused", **FULL)), [Observed]),
    "its host's disk is still full": ([vm(state=S.paused)], inventory(seen("paused", **FULL)), []),
    "its host has room again": ([vm(state=S.paused)], inventory(seen()), [Observed]),
    "its host's disk is full, and it is to stop": ([vm(D.stopped, S.paused)], inventory(seen("paused", **FULL)), [Repeat]),
    "should be paused": ([vm(D.paused, S.paused)], inventory(seen()), [Repeat]),
    "row lost its host, scope is there": ([vm(state=S.failed, host_id=None)], inventory(seen()), [Adopt]),
    "scope nobody knows, young": ([], inventory(seen(ago=1)), [Unrecorded]),
    "scope nobody knows, old": ([], inventory(seen(ago=86400)), [Unrecorded]),
    "scope nobody knows, paused": ([], inventory(seen("paused")), [Unrecorded]),
    "scope nobody knows, no age": ([], inventory(seen().model_copy(update={"started_at": None})), [Unrecorded]),
    "runs on the wrong host": ([vm(host_id="h2")], inventory(seen()), [Unrecorded]),
    "canary at work": ([], inventory(canary(ago=599)), []),
    "canary forgotten": ([], inventory(canary(ago=600)), [RemoveCanary]),
    "canary forgotten, no age": ([], inventory(canary().model_copy(update={"started_at": None})), []),
    "named like a canary, and none": ([], inventory(seen(name=CANARY, ago=3600, tags=["web"])), [Unrecorded]),
    "tagged like a canary, and none": ([], inventory(seen(name=CANARY_PREFIX + "web", tags=[CANARY_TAG])), [Unrecorded]),
    "disk nobody knows": ([], inventory(seen("stopped")), [Unrecorded]),
    "folder without a disk": ([], inventory(seen("stopped").model_copy(update={"disk": False})), []),
    "row older than its host, runs": ([vm(D.stopped, S.stopped)], inventory(seen(generation=4)), [Behind]),
    "row older than its host, gone there": ([vm()], inventory(seen("stopped", generation=9)), [Behind]),
    "row older than its host, being changed": ([vm(busy=True)], inventory(seen(generation=4)), []),
    "row older than its host, to be deleted": ([vm(D.deleted, S.failed)], inventory(seen(generation=4)), [Repeat]),
    "host rebooted, disk not mounted": ([vm(made=True)], inventory(boot_id="boot-2"), [Ended]),
    "host rebooted, disk not mounted, no autostart": ([vm(made=True, autostart=False)], inventory(boot_id="boot-2"), [LeaveDead]),
    "disk still not mounted": ([vm(state=S.stopped, made=True)], inventory(boot_id="boot-2"), []),
    "disk mounted again": ([vm(state=S.stopped, made=True)], inventory(seen("failed"), boot_id="boot-2"), [Repeat]),
    "host rebooted, disk mounted": ([vm(made=True)], inventory(seen("failed"), boot_id="boot-2"), [Restart]),
    "vanished with its disk": ([vm(made=True)], inventory(), [Ended]),
    "died, only its disk is gone": ([vm(made=True)], inventory(seen("failed").model_copy(update={"disk": False})), [Ended]),
    "paused, then gone with its disk": ([vm(D.paused, S.paused, made=True)], inventory(), [Ended]),
    "was to be paused, disk still not mounted": ([vm(D.paused, S.stopped, made=True)], inventory(), []),
    "runs on while its disk is not seen": ([vm(made=True)], inventory(seen().model_copy(update={"disk": False})), []),
    "to stop, disk not mounted": ([vm(D.stopped, S.running, made=True)], inventory(), [Observed]),
    "to go, disk not mounted": ([vm(D.deleted, S.failed, made=True)], inventory(), [Repeat]),
    "a volume's change, disk not mounted": ([vm(D.stopped, S.stopped, unsettled=True, made=True)], inventory(), []),
    "was to start, never had a disk": ([vm(state=S.stopped)], inventory(), [Repeat]),
    "no answer, not offline yet": ([vm()], {}, []),
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_diff_gives_the_expected_actions_for_each_situation(name: str) -> None:
    rows, inventories, expected = SITUATIONS[name]
    actions = diff(rows, [HOST], inventories, NOW, {})
    assert [type(action) for action in actions] == expected
    assert all(action.generation == 3 for action in actions if isinstance(action, VmAction))


def test_silent_host_is_told_once_and_its_vms_become_unknown_only_when_offline() -> None:
    degraded = HostRow("h1", "h1", "boot-1", HostState.degraded, HostState.online)
    assert diff([vm()], [degraded], {}, NOW, {}) == [HostChanged("h1", HostState.degraded)]
    offline = HostRow("h1", "h1", "boot-1", HostState.offline, HostState.degraded)
    assert diff([vm()], [offline], {}, NOW, {}) == [HostChanged("h1", HostState.offline), Unknown("v1", 3)]
    settled = replace(offline, stored=HostState.offline)
    assert diff([vm(state=S.unknown)], [settled], {}, NOW, {}) == []


def test_restart_pauses_grow_and_are_forgotten_after_ten_good_minutes() -> None:
    pauses = [restarts.pause(n, NOW, NOW).total_seconds() for n in range(9)]
    assert pauses == [0, 5, 10, 20, 40, 80, 160, 300, 300]
    assert restarts.pause(8, NOW - timedelta(minutes=11), NOW) == timedelta(0)


TAP = TapStatus(name="tap1", vm_id="gone", bridge="fcbr0", up=True)


def test_the_tap_of_a_deleted_vm_goes_after_its_grace_and_not_before() -> None:
    for first, expected in ((None, []), (29, []), (30, [RemoveTap("h1", "tap1")])):
        known = {} if first is None else {("h1", "tap1"): NOW - timedelta(seconds=first)}
        assert diff([], [HOST], inventory(taps=(TAP,)), NOW, known, deleted={"gone"}) == expected


def test_the_tap_of_a_vm_that_nobody_deleted_is_reported_and_stays() -> None:
    known = {("h1", "tap1"): NOW - timedelta(days=30)}
    assert diff([], [HOST], inventory(taps=(TAP,)), NOW, known) == [UnknownTap("h1", "tap1", "gone")]
    elsewhere = vm(host_id="h2")
    tap = TAP.model_copy(update={"vm_id": "v1"})
    assert diff([elsewhere], [HOST], inventory(taps=(tap,)), NOW, known) == [UnknownTap("h1", "tap1", "v1")]


def test_only_a_delete_on_record_removes_a_vm_without_a_row() -> None:
    for state in ("running", "paused", "stopped", "failed"):
        (reported,) = diff([], [HOST], inventory(seen(state)), NOW, {})
        assert isinstance(reported, Unrecorded)
        assert diff([], [HOST], inventory(seen(state)), NOW, {}, deleted={"v1"}) == [FinishDelete("h1", "v1", "web1")]
    assert diff([vm()], [HOST], inventory(seen()), NOW, {}, deleted={"v1"}) == [], "a VM with a row lives"


def test_unknown_vms_and_taps_are_checked_against_recorded_deletes() -> None:
    found = inventory(seen(), seen(vm_id="v2"), taps=(TAP, TAP.model_copy(update={"vm_id": None})))
    assert strangers([vm()], found) == {"v2", "gone"}


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (Restart("v1", 3, "it crashed", timedelta(0)), Ended("v1", 3, "it crashed")),
        (Ended("v1", 3, "no disk", without_disk=True), Ended("v1", 3, "no disk", without_disk=True)),
        (LeaveDead("v1", 3, "powered off", failed=False), LeaveDead("v1", 3, "powered off", failed=False)),
        (Repeat("v1", 3, "start"), None),
        (FinishDelete("h1", "v1", "web1"), None),
        (RemoveCanary("h1", "v1", CANARY), None),
        (RemoveTap("h1", "tap1"), None),
        (HostChanged("h1", HostState.offline), HostChanged("h1", HostState.offline)),
        (Unrecorded("h1", seen()), Unrecorded("h1", seen())),
    ],
    ids=lambda value: type(value).__name__,
)
def test_disabled_reconciler_only_records_states(action: Action, expected: Action | None) -> None:
    assert only_seen(action) == expected


@pytest.mark.parametrize(("state", "failed"), [("stopped", False), ("failed", True)])
def test_a_reboot_is_no_failure_where_the_policy_leaves_it_off(state: str, failed: bool) -> None:
    status = seen(state, rebooted=state == "stopped", exit_reason="It ended.")
    found = diff([vm(policy=P.never)], [HOST], inventory(status), NOW, {})
    assert found == [LeaveDead("v1", 3, "It ended.", failed=failed)]


def test_reenabled_reconciler_applies_the_policy_to_ended_vms() -> None:
    """Its row reports it as stopped. The wanted state decides whether it returns."""
    for wanted, after in ((D.running, [Repeat("v1", 3, "start")]), (D.stopped, [])):
        row = vm(state=S.stopped, desired=wanted, generation=3)
        assert diff([row], [HOST], inventory(seen("failed", generation=3)), NOW, {}) == after


@pytest.mark.parametrize(
    ("rows", "vms", "owner"),
    [
        ([vm()], [seen()], "v1"),
        ([vm(busy=True, state=S.starting)], [], "v1"),
        ([], [seen("stopped", vm_id="x", name=CANARY)], "x"),
        ([], [], None),
    ],
    ids=["of a running VM", "of one being created", "of one only the host knows", "not ours"],
)
def test_unrelated_taps_stay(rows: list[VmRow], vms: list[VmStatus], owner: str | None) -> None:
    tap = TAP.model_copy(update={"vm_id": owner})
    actions = diff(rows, [HOST], inventory(*vms, taps=(tap,)), NOW, {("h1", "tap1"): NOW - timedelta(hours=1)})
    assert not [action for action in actions if isinstance(action, RemoveTap)]


rows_strategy = st.lists(
    st.builds(
        VmRow,
        id=st.sampled_from("abcd"),
        name=st.just("n"),
        host_id=st.sampled_from(["h1", "h2", None]),
        desired=st.sampled_from(DesiredState),
        state=st.sampled_from(VmState),
        busy=st.booleans(),
        autostart=st.booleans(),
        policy=st.sampled_from(RestartPolicy),
        host_boot_id=st.sampled_from([None, "boot-1", "boot-0"]),
        made=st.booleans(),
        restarts=st.integers(0, 50),
    ),
    unique_by=lambda row: row.id,
)
statuses = st.lists(
    st.builds(
        VmStatus,
        id=st.sampled_from("abcdef"),
        name=st.sampled_from(["n", CANARY]),
        tags=st.sampled_from([[], [CANARY_TAG]]),
        state=st.sampled_from(["running", "paused", "stopped", "failed"]),
        scope=st.just("s"),
        disk=st.booleans(),
        started_at=st.sampled_from([None, NOW, NOW - timedelta(seconds=61), NOW - timedelta(hours=1)]),
    ),
    unique_by=lambda status: status.id,
)
maybe_inventory = st.none() | st.builds(
    Inventory,
    host_id=st.just("x"),
    boot_id=st.just("boot-1"),
    time=st.just(NOW),
    vms=statuses,
    taps=st.just([]),
    volumes=st.just([]),
)
hosts_strategy = st.sampled_from(HostState)


@given(rows_strategy, maybe_inventory, maybe_inventory, hosts_strategy, hosts_strategy)
def test_diff_invariants_hold_in_any_situation(
    rows: list[VmRow], one: Inventory | None, two: Inventory | None, s1: HostState, s2: HostState
) -> None:
    hosts = [HostRow("h1", "h1", "boot-1", s1, s1), HostRow("h2", "h2", "boot-1", s2, s2)]
    inventories = {k: v for k, v in (("h1", one), ("h2", two)) if v is not None}
    actions = diff(rows, hosts, inventories, NOW, {})
    assert not any(isinstance(action, Unusable) for action in actions), "a report within the contract can be compared"
    by_id = {row.id: row for row in rows}
    touched = [action.vm_id for action in actions if isinstance(action, VmAction) and not isinstance(action, Adopt)]
    assert len(touched) == len(set(touched)), "one decision per VM"
    for action in actions:
        if isinstance(action, VmAction):
            row = by_id[action.vm_id]
            assert not row.busy, "a VM that somebody is at is never touched"
            if isinstance(action, (Restart, Repeat, LeaveDead)):
                assert row.host_id in inventories, "nothing is decided about a VM whose host did not answer"
            if isinstance(action, Restart):
                assert row.desired in (D.running, D.paused)
                alive = {v.id for v in inventories[row.host_id or ""].vms if v.state in ("running", "paused")}
                assert row.id not in alive, "nothing that runs is started again"
            if isinstance(action, Restart) or (isinstance(action, Repeat) and action.kind == "start"):
                disks = {v.id for v in inventories[row.host_id or ""].vms if v.disk}
                assert row.id in disks or not row.made, "no disk is made again"
        assert not isinstance(action, (FinishDelete, RemoveTap)), "nobody deleted anything"
        if isinstance(action, RemoveCanary):
            assert action.vm_id not in by_id and action.name == CANARY
            assert [v.tags for v in inventories[action.host_id].vms if v.id == action.vm_id] == [[CANARY_TAG]]


@given(rows_strategy, maybe_inventory)
def test_diff_of_a_converged_platform_is_empty(rows: list[VmRow], one: Inventory | None) -> None:
    settled = [replace(row, host_id="h1", desired=D.running, state=S.running, busy=False, host_boot_id="boot-1") for row in rows]
    fitting = inventory(*[seen(vm_id=row.id) for row in settled])
    assert diff(settled, [HOST], fitting, NOW, {}) == []
