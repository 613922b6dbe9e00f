"""The result of a change that a VM's host carries out while the VM runs: its port forwards and its rate limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from nqrust.client.manager import ManagerClient
    from nqrust.contract.vms import Vm

_PATIENCE = 60.0  # seconds


def settled(client: ManagerClient, asked: Vm, field: Literal["forwards", "rate_limits"], noun: str) -> Vm:
    """Return the VM once its host took the change. `asked`: the manager's answer to the request; `noun`: the field, for people.

    The manager takes the change back if the host refuses it. Raises WaitFailed then, and WaitTimeout after a minute.
    """
    from nqrust.client.errors import WaitFailed

    wanted = getattr(asked, field)

    def taken(vm: Vm) -> bool:
        if getattr(vm, field) != wanted:
            reason = (vm.error or "its host gave no reason").rstrip(".")
            raise WaitFailed(f"VM {vm.name} did not get the {noun}: {reason}", vm.name)
        return True

    if asked.generation <= (asked.observed_generation or 0):
        return asked
    return client.wait_for(asked.id, taken, _PATIENCE, since=asked.generation) or asked
