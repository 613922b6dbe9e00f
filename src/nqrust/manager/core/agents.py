"""The manager's interface to a host's agent. The client in `nqrust.client.agent` and a simulated one implement it."""

from __future__ import annotations

from typing import Any, Protocol

from nqrust.client.agent import Tls
from nqrust.contract.agent import Inventory, VmDocument, VmSpec, VmStatus
from nqrust.contract.problem import Problem
from nqrust.contract.vms import SnapshotFound, StopRequest


class AgentFailure(Exception):
    """The agent did not carry out the request. Base of the two errors below."""


class AgentAway(AgentFailure):
    """No answer. The outcome is unknown; every verb may be sent again."""


class AgentSaidNo(AgentFailure):
    """An error answer; `problem` has the details."""

    def __init__(self, status: int, problem: Problem) -> None:
        self.status, self.problem = status, problem
        super().__init__(problem.detail or problem.title)


class AgentPort(Protocol):
    """One agent. Every method raises AgentAway or AgentSaidNo; every verb may be repeated.

    `generation`: of the VM's row, as in `VmSpec`. The host keeps the newest one, which reveals an outdated row.
    `request`: identity of the operation, the same in a retry.
    """

    async def inventory(self) -> Inventory: ...

    async def get_vm(self, vm_id: str) -> VmStatus | None: ...

    async def vm_record(self, vm_id: str) -> VmDocument: ...

    async def put_vm(self, spec: VmSpec) -> VmStatus: ...

    async def stop_vm(self, vm_id: str, request: StopRequest, generation: int) -> VmStatus: ...

    async def pause_vm(self, vm_id: str, generation: int) -> VmStatus: ...

    async def resume_vm(self, vm_id: str, generation: int) -> VmStatus: ...

    async def delete_vm(self, vm_id: str) -> None: ...

    async def create_snapshot(self, vm_id: str, name: str, request: str, generation: int) -> SnapshotFound: ...

    async def restore_snapshot(self, vm_id: str, name: str, generation: int, request: str) -> VmStatus: ...

    async def delete_snapshot(self, vm_id: str, name: str, generation: int) -> None: ...

    async def delete_volume(self, name: str) -> None: ...

    async def delete_tap(self, name: str) -> None: ...

    async def console_log(self, vm_id: str, tail: int | None = None) -> str: ...

    def console_url(self, vm_id: str) -> str: ...

    def exec_url(self, vm_id: str) -> str: ...

    async def console_options(self) -> dict[str, Any]: ...


class Agents(Protocol):
    """Return the agent at `url`, authenticated with `command_token`. `tls`: how it proves itself, if it has a certificate.
    `host_id`: there is one client per host; another address or token of the same host replaces it.

    Raises AgentAway for an address that is none.
    """

    def at(self, url: str, command_token: str, tls: Tls | None = None, *, host_id: str = "") -> AgentPort: ...

    async def close(self) -> None: ...
