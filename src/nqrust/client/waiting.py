"""The end of a wait for a VM, and the time that its guest may take to boot. Pure, except for the clock: an answer in, a verdict out.

The manager's record can lag behind: a dead VM is recorded as running until the manager looks. A wait for a requested change
(`since`) therefore ends only with an answer from the VM's host (`fresh`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Literal

from nqrust.client.errors import ClientError, Refused, Unreachable, WaitFailed, WaitTimeout
from nqrust.contract import vms
from nqrust.contract.guest import BOOT_SECONDS

Named = Literal["running", "guest_up", "stopped", "paused", "deleted"]
Condition = Named | Callable[[vms.Vm], bool]
_FRESH_EVERY = 8  # answers
_PAUSES = (0.02, 0.25)
"""Seconds between two requests, at least and at most. In between, an eighth of the time since the wait began: a VM that starts in
200 ms is not seen 250 ms later."""
_WORDS = {"guest_up": "up"}
"""Conditions, in words for people where they have others."""
_SETTLING = 60.0
"""Seconds in which the services of a guest may start after its guest agent."""


def reached(vm: vms.Vm | None, condition: Condition) -> bool:
    """Return whether `vm` (None: it is gone) fulfils `condition`. Raises WaitFailed if it cannot without help."""
    if vm is None:
        if condition == "deleted":
            return True
        raise WaitFailed("The VM is gone.")
    if callable(condition):
        return condition(vm)
    if condition == "deleted":
        return False
    if vm.state is vms.VmState.failed:
        raise WaitFailed(f"VM {vm.name} failed: {vm.error or 'no reason given'}", vm.name)
    if condition == "guest_up":
        return vm.state is vms.VmState.running and vm.guest_up_at is not None
    return bool(vm.state.value == condition)


class Waiting:
    """One wait for a VM, as a state machine without I/O.

    Ask for the VM (`fresh`: from its host), pass the outcome to `answered` or `failed`, and sleep `pause` seconds, until `done`.
    Then `result` is the VM, or None for `deleted`.

    `since`: the generation of the requested change, or 0. The wait ends only when the VM's host reports that change. `steady`:
    seconds for which a VM must run, unless its guest reports. The wait tolerates a short absence of the manager. `answered` and
    `failed` raise WaitTimeout when time is up, and WaitFailed at once if the VM failed or is gone.
    """

    def __init__(
        self,
        vm: str,
        condition: Condition,
        timeout: float,
        since: int,
        steady: float,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._vm, self._condition, self._timeout = vm, condition, timeout
        self._since, self._steady, self._clock = since, steady, clock or time.monotonic
        self._began = self._clock()
        self._deadline = self._began + timeout
        self._last: vms.Vm | None = None
        self._answers = 0
        self._runs_from: float | None = None
        self._confirming = False
        self.done = False
        self.result: vms.Vm | None = None
        self.pause = 0.0

    @property
    def fresh(self) -> bool:
        """Whether to ask for an answer of the VM's host."""
        return self._since > 0 and (self._confirming or self._answers % _FRESH_EVERY == _FRESH_EVERY - 1)

    def answered(self, vm: vms.Vm) -> None:
        """Process the answer `vm`, requested with `fresh`."""
        hurry = not self._confirming
        if self._over(vm):
            self.done, self.result, self.pause = True, vm, 0.0
            return
        self._go_on(hurry and self._confirming)

    def failed(self, error: ClientError) -> None:
        """Process a failed request. Raises `error` unless waiting can help."""
        if isinstance(error, Refused) and error.status == 404:
            reached(None, self._condition)
            self.done, self.pause = True, 0.0
        elif (isinstance(error, Refused) and error.status in (502, 503, 504)) or (
            isinstance(error, Unreachable) and self._clock() < self._deadline
        ):
            self._go_on()
        else:
            raise error

    def _go_on(self, at_once: bool = False) -> None:
        if self._clock() >= self._deadline:
            raise self._timed_out()
        shortest, longest = _PAUSES
        self.pause = 0.0 if at_once else min(longest, max(shortest, (self._clock() - self._began) / 8))

    def _over(self, vm: vms.Vm) -> bool:
        fresh, self._last = self.fresh, vm
        self._answers += 1
        if self._since and vm.observed_generation < self._since:
            if vm.state is vms.VmState.failed and vm.generation == self._since:
                return reached(vm, self._condition)
            self._confirming, self._runs_from = False, None
            return False
        if not reached(vm, self._condition):
            self._confirming, self._runs_from = False, None
            if self._since and self._condition in ("running", "guest_up") and vm.state is vms.VmState.stopped:
                raise WaitFailed(f"VM {vm.name} stopped: {vm.error or 'its guest powered off'}", vm.name)
            return False
        if not self._since or callable(self._condition):
            return True
        if not fresh:
            self._confirming = True
            return False
        if self._condition == "running" and vm.guest_up_at is None and self._steady:
            self._runs_from = self._clock() if self._runs_from is None else self._runs_from
            return self._clock() - self._runs_from >= self._steady
        return True

    def _timed_out(self) -> WaitTimeout:
        last, after = self._last, f"after {self._timeout:g} s"
        if last is None:
            return WaitTimeout(f"The manager did not answer about VM {self._vm} {after}.", self._vm)
        wanted = _WORDS.get(self._condition, self._condition) if isinstance(self._condition, str) else "as requested"
        error = f" ({last.error})" if last.error else ""
        if last.state.value == wanted:
            return WaitTimeout(f"VM {last.name} has not finished its change to {wanted} {after}{error}.", last.name)
        return WaitTimeout(f"VM {last.name} is not {wanted} {after}; it is {last.state.value}{error}.", last.name)


def boots_for(vm: vms.Vm, now: datetime, patience: float = BOOT_SECONDS, *, services: bool = False) -> float:
    """Return the seconds that the guest may still take to boot, or its services to start after that. Pure."""
    if vm.state is not vms.VmState.running or vm.started_at is None:
        return 0.0
    if vm.guest_up_at is None:
        return patience - _since(vm.started_at, now)
    return min(_SETTLING, patience) - _since(vm.guest_up_at, now) if services else 0.0


def _since(moment: datetime, now: datetime) -> float:
    return max(0.0, (now - moment).total_seconds())  # the clocks of two machines
