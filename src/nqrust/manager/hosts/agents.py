"""The real agents, behind `domain.agents`: one client per host, with its errors translated."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from pydantic import ValidationError

from nqrust.client.agent import AgentClient, AgentRefused, AgentUnreachable, Tls
from nqrust.contract.agent import Inventory, VmDocument, VmSpec, VmStatus
from nqrust.contract.vms import SnapshotFound, StopRequest
from nqrust.manager.core.agents import AgentAway, AgentPort, AgentSaidNo

T = TypeVar("T")


async def _ask(call: Awaitable[T]) -> T:
    try:
        return await call
    except AgentRefused as error:
        raise AgentSaidNo(error.status, error.problem) from error
    except (AgentUnreachable, ValidationError) as error:
        raise AgentAway(str(error).splitlines()[0]) from error


class RemoteAgent:
    """One agent over HTTP."""

    def __init__(self, client: AgentClient) -> None:
        self.client = client

    async def inventory(self) -> Inventory:
        return await _ask(self.client.inventory())

    async def get_vm(self, vm_id: str) -> VmStatus | None:
        return await _ask(self.client.get_vm(vm_id))

    async def vm_record(self, vm_id: str) -> VmDocument:
        return await _ask(self.client.vm_record(vm_id))

    async def put_vm(self, spec: VmSpec) -> VmStatus:
        return await _ask(self.client.put_vm(spec))

    async def stop_vm(self, vm_id: str, request: StopRequest, generation: int) -> VmStatus:
        return await _ask(self.client.stop_vm(vm_id, request, generation))

    async def pause_vm(self, vm_id: str, generation: int) -> VmStatus:
        return await _ask(self.client.pause_vm(vm_id, generation))

    async def resume_vm(self, vm_id: str, generation: int) -> VmStatus:
        return await _ask(self.client.resume_vm(vm_id, generation))

    async def delete_vm(self, vm_id: str) -> None:
        await _ask(self.client.delete_vm(vm_id))

    async def create_snapshot(self, vm_id: str, name: str, request: str, generation: int) -> SnapshotFound:
        return await _ask(self.client.create_snapshot(vm_id, name, request, generation))

    async def restore_snapshot(self, vm_id: str, name: str, generation: int, request: str) -> VmStatus:
        return await _ask(self.client.restore_snapshot(vm_id, name, generation, request))

    async def delete_snapshot(self, vm_id: str, name: str, generation: int) -> None:
        await _ask(self.client.delete_snapshot(vm_id, name, generation))

    async def delete_volume(self, name: str) -> None:
        await _ask(self.client.delete_volume(name))

    async def delete_tap(self, name: str) -> None:
        await _ask(self.client.delete_tap(name))

    async def console_log(self, vm_id: str, tail: int | None = None) -> str:
        return await _ask(self.client.console_log(vm_id, tail))

    def console_url(self, vm_id: str) -> str:
        return self.client.console_url(vm_id)

    def exec_url(self, vm_id: str) -> str:
        return self.client.exec_url(vm_id)

    async def console_options(self) -> dict[str, Any]:
        return await self.client.console_options()


class RemoteAgents:
    """Keeps one client per host for its connections. A host that moved or joined again gets a new one, and the former ends."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[str, str, Tls | None], RemoteAgent]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def at(self, url: str, command_token: str, tls: Tls | None = None, *, host_id: str = "") -> AgentPort:
        key, place = (url, command_token, tls), host_id or url
        former = self._known.get(place)
        if former is not None and former[0] == key:
            return former[1]
        try:
            lookups = former[1].client.lookups if former is not None else None
            agent = RemoteAgent(AgentClient(url, command_token, tls=tls, lookups=lookups))
        except AgentUnreachable as error:
            raise AgentAway(str(error)) from error
        self._known[place] = (key, agent)
        if former is not None:
            task = asyncio.get_running_loop().create_task(former[1].client.retire())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
        return agent

    async def close(self) -> None:
        await asyncio.gather(*self._ending, return_exceptions=True)
        for _, agent in self._known.values():
            await agent.client.close()
        self._known.clear()
