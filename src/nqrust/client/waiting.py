"""When waiting for a VM is over. Pure: a VM in, a verdict out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from nqrust.client.errors import WaitFailed, WaitTimeout
from nqrust.contract.api import vms

Named = Literal["running", "guest_up", "stopped", "paused", "deleted"]
Condition = Named | Callable[[vms.Vm], bool]


def reached(vm: vms.Vm | None, condition: Condition) -> bool:
    """Whether `vm` (None: it is gone) fulfils `condition`. Raises WaitFailed when it never will by itself."""
    if vm is None:
        if condition == "deleted":
            return True
        raise WaitFailed("The VM is gone.")
    if callable(condition):
        return condition(vm)
    if condition == "deleted":
        return False
    if vm.state is vms.VmState.failed:
        raise WaitFailed(f"VM {vm.name} failed: {vm.error or 'no reason given'}")
    if condition == "guest_up":
        return vm.state is vms.VmState.running and vm.guest_up_at is not None
    return bool(vm.state.value == condition)


def timed_out(vm: str, last: vms.Vm | None, condition: Condition, timeout: float) -> WaitTimeout:
    wanted = condition if isinstance(condition, str) else "what was waited for"
    seen = f"; it is {last.state.value}" + (f" ({last.error})" if last.error else "") if last else ""
    return WaitTimeout(f"VM {vm} is not {wanted} after {timeout:g} s{seen}.")
