"""A wait: the answers that end it, and the queries that it sends. The clock is a fake one."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from nqrust.client.errors import WaitFailed, WaitTimeout
from nqrust.client.waiting import Waiting
from nqrust.contract.vms import Vm

AT = datetime(2026, 1, 1, tzinfo=timezone.utc)


def vm(state: str = "running", observed: int | None = 3, generation: int = 3, **more: Any) -> Vm:
    return Vm.model_validate(
        {"id": "v1", "name": "web1", "state": state, "desired_state": "running", "mac": "m", "tap": "t", "image": "tiny", "vcpus": 1,
         "memory_mib": 64, "disk_mib": 16, "created_at": AT, "generation": generation, "observed_generation": observed, **more}
    )  # fmt: skip


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def waiting(condition: Any = "running", since: int = 3, steady: float = 0.0, clock: Clock | None = None) -> Waiting:
    return Waiting("web1", condition, 60, since, steady, clock or Clock())


def over(wait: Waiting, answer: Vm) -> bool:
    wait.answered(answer)
    return wait.done


def test_waiting_for_a_change_ends_only_when_the_host_confirms_it() -> None:
    wait = waiting()
    assert not wait.fresh and not over(wait, vm()), "the record may lag behind"
    assert wait.fresh and wait.pause == 0
    assert over(wait, vm()), "its host says so too"


def test_waiting_without_a_change_trusts_the_record() -> None:
    wait = waiting(since=0)
    assert over(wait, vm()) and not wait.fresh


def test_waiting_ignores_operations_that_ended_before_the_request() -> None:
    wait = waiting(since=4)
    for _ in range(3):
        assert not over(wait, vm(observed=3))
    assert not over(wait, vm(observed=4, generation=4)) and over(wait, vm(observed=4, generation=4))


def test_a_vm_has_to_run_for_a_while_unless_its_guest_reports() -> None:
    clock = Clock()
    wait = waiting(steady=2.0, clock=clock)
    over(wait, vm())
    assert not over(wait, vm()) and wait.pause > 0
    clock.now = 1.9
    assert not over(wait, vm())
    clock.now = 2.0
    assert over(wait, vm())
    wait = waiting(steady=2.0)
    over(wait, vm())
    assert over(wait, vm(guest_up_at=AT))


@pytest.mark.parametrize("state", ["failed", "stopped"])
def test_waiting_fails_when_the_vm_ends(state: str) -> None:
    wait = waiting(steady=2.0)
    over(wait, vm())
    over(wait, vm())
    with pytest.raises(WaitFailed, match="it crashed"):
        over(wait, vm(state, error="it crashed"))


def test_waiting_continues_while_a_vm_restarts_automatically() -> None:
    wait = waiting()
    over(wait, vm())
    assert not over(wait, vm("starting", error="it crashed"))
    assert not wait.fresh, "from the beginning"
    over(wait, vm())
    assert over(wait, vm())


def test_waiting_asks_the_host_from_time_to_time_and_notices_a_dead_vm() -> None:
    wait = waiting("guest_up")
    asked = []
    for _ in range(16):
        asked.append(wait.fresh)
        assert not over(wait, vm())
    assert asked == [False] * 7 + [True] + [False] * 7 + [True]


@pytest.mark.parametrize(("seconds", "pause"), [(0.0, 0.02), (0.4, 0.05), (1.0, 0.125), (30.0, 0.25)])
def test_a_wait_asks_often_at_first_and_seldom_later(seconds: float, pause: float) -> None:
    clock = Clock()
    wait = waiting(clock=clock)
    clock.now = seconds
    assert not over(wait, vm("starting"))
    assert wait.pause == pytest.approx(pause)


@pytest.mark.parametrize(
    ("answer", "condition", "told"),
    [
        (vm("starting"), "running", "VM web1 is not running after 60 s; it is starting."),
        (vm("running", observed=2), "running", "VM web1 has not finished its change to running after 60 s."),
        (vm("running", guest_up_at=None), "guest_up", "VM web1 is not up after 60 s; it is running."),
    ],
)
def test_the_end_of_the_time_is_told_with_the_name_of_the_vm(answer: Vm, condition: str, told: str) -> None:
    """The wait has the id. `is not running after 0 s; it is running` helped nobody."""
    clock = Clock()
    wait = Waiting("0c9f", condition, 60, 3, 0.0, clock)  # type: ignore[arg-type]
    clock.now = 61.0
    with pytest.raises(WaitTimeout) as late:
        wait.answered(answer)
    assert str(late.value) == told and late.value.cure == "Look at it with: nqr vm show web1"
