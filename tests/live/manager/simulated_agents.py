"""Agents that keep VMs in memory, for the manager's tests."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from typing import Any


class SimulatedAgent:
    """An agent that keeps VMs in a dictionary. `away`: does not answer. `refuse`: (status, title) for every verb."""

    def __init__(self) -> None:
        from nqrust.contract.agent import TapStatus, VmStatus

        self.vms: dict[str, VmStatus] = {}
        self.taps: dict[str, TapStatus] = {}
        self.specs: dict[str, Any] = {}
        self.snapshots: dict[tuple[str, str], str] = {}
        self.restored: dict[str, str] = {}
        """VM -> identity of the last restore."""
        self.requests: list[str] = []
        """Identities of the snapshots that were asked for."""
        self.volumes: dict[str, int] = {}
        self.calls: list[tuple[str, str]] = []
        self.host_id: str | None = None
        self.boot_id = "boot-1"
        self.away = False
        self.refuse: tuple[int, str] | None = None
        self.hold: asyncio.Event | None = None
        self.network_written = ""

    async def _enter(self, verb: str, subject: str) -> None:
        from nqrust.contract.problem import Problem
        from nqrust.manager.core.agents import AgentAway, AgentSaidNo

        self.calls.append((verb, subject))
        if self.away:
            raise AgentAway("The agent does not answer.")
        if self.refuse and verb != "inventory":
            raise AgentSaidNo(self.refuse[0], Problem(title=self.refuse[1], status=self.refuse[0]))
        if self.hold and verb in ("put", "delete_volume"):
            await self.hold.wait()

    def alive(self, vm_id: str, name: str, started_ago: float = 0.0) -> Any:
        from nqrust.contract.agent import VmStatus

        started = datetime.now(timezone.utc) - timedelta(seconds=started_ago)
        self.vms[vm_id] = VmStatus(
            id=vm_id,
            name=name,
            state="running",
            scope=f"fc-{vm_id}",
            disk=True,
            started_at=started,
            vmm="qemu",
            accel="tcg",
            pids=[1],
        )
        return self.vms[vm_id]

    async def inventory(self) -> Any:
        from nqrust.contract.agent import Inventory
        from nqrust.contract.volumes import KeptVolume

        await self._enter("inventory", "")
        return Inventory(
            host_id=self.host_id,
            boot_id=self.boot_id,
            time=datetime.now(timezone.utc),
            vms=[vm.model_copy() for vm in self.vms.values()],
            taps=list(self.taps.values()),
            volumes=[KeptVolume.model_construct(name=name, size_mib=size) for name, size in self.volumes.items()],
        )

    async def get_vm(self, vm_id: str) -> Any:
        await self._enter("get", vm_id)
        found = self.vms.get(vm_id)
        return found.model_copy() if found else None

    async def vm_record(self, vm_id: str) -> Any:
        from nqrust.contract.agent import VmDocument
        from nqrust.contract.vms import SnapshotFound

        await self._enter("record", vm_id)
        status, at = self._get(vm_id), datetime(2026, 1, 1, tzinfo=timezone.utc)
        if vm_id not in self.specs:
            raise self._no(404, "NQR-API-711", "The record cannot be read.")
        spec = self.specs[vm_id].model_copy(update={"guest_token": "", "run": status.state != "stopped"})
        snapshots = [
            SnapshotFound(name=n, kind=k, size=1024, created_at=at) for (vm, n), k in self.snapshots.items() if vm == vm_id
        ]
        return VmDocument(spec=spec, status=status, created_at=at, snapshots=snapshots)

    async def put_vm(self, spec: Any) -> Any:
        await self._enter("put", spec.id)
        known = self.specs.get(spec.id)
        if known is not None and spec.generation < known.generation:
            raise self._no(409, "NQR-API-705", "This host has a newer generation.")
        others = [one for vm_id, one in self.specs.items() if vm_id in self.vms and vm_id != spec.id]
        holder = next((one for one in others if spec.ip and one.ip == spec.ip), None)
        if holder is not None:
            raise self._no(409, "NQR-NET-709", f"VM {holder.name} has the address.")
        if spec.made and not (spec.id in self.vms and (self.vms[spec.id].disk or not spec.run)):
            raise self._no(422, "NQR-VMM-142", "The disk of the VM is not on this host.")
        self.specs[spec.id] = spec
        known = self.vms.get(spec.id)
        if known is None or (spec.run and known.state != "running"):
            known = self.alive(spec.id, spec.name)
            if not spec.run:
                known.state, known.started_at = "stopped", None
        for volume in spec.detached:
            if volume.data != "delete":
                self.volumes[volume.kept_name(spec.name, spec.id)] = volume.size_mib
        known.name, known.generation, known.mac, known.ip = spec.name, spec.generation, spec.mac, spec.ip
        known.image, known.vcpus, known.memory_mib = spec.image.name, spec.vcpus, spec.memory_mib
        known.forwards, known.network_written = spec.forwards, self.network_written
        return known

    def _no(self, status: int, code: str, title: str) -> Exception:
        from nqrust.contract.problem import Problem
        from nqrust.manager.core.agents import AgentSaidNo

        return AgentSaidNo(status, Problem(title=title, status=status, code=code))

    def _get(self, vm_id: str) -> Any:
        from nqrust.contract.problem import Problem
        from nqrust.manager.core.agents import AgentSaidNo

        if vm_id not in self.vms:
            raise AgentSaidNo(404, Problem(title="no such VM", status=404))
        return self.vms[vm_id]

    def _told(self, vm_id: str, generation: int) -> None:
        known = self._get(vm_id)
        if generation < known.generation:
            raise self._no(409, "NQR-API-705", "This host has a newer generation.")
        known.generation = generation
        if vm_id in self.specs:
            self.specs[vm_id].generation = generation

    async def stop_vm(self, vm_id: str, request: Any, generation: int) -> Any:
        await self._enter("stop", vm_id)
        self._told(vm_id, generation)
        self._get(vm_id).state = "stopped"
        return self.vms[vm_id]

    async def pause_vm(self, vm_id: str, generation: int) -> Any:
        await self._enter("pause", vm_id)
        self._told(vm_id, generation)
        self._get(vm_id).state, self.vms[vm_id].exit_reason = "paused", ""
        return self.vms[vm_id]

    async def resume_vm(self, vm_id: str, generation: int) -> Any:
        await self._enter("resume", vm_id)
        self._told(vm_id, generation)
        self._get(vm_id).state = "running"
        return self.vms[vm_id]

    async def delete_vm(self, vm_id: str) -> None:
        await self._enter("delete", vm_id)
        self.vms.pop(vm_id, None)
        spec = self.specs.get(vm_id)
        for volume in spec.volumes if spec else ():
            if volume.keep and self.volumes is not None:
                self.volumes[volume.kept_name(spec.name, spec.id)] = volume.size_mib

    async def create_snapshot(self, vm_id: str, name: str, request: str, generation: int) -> Any:
        from nqrust.contract.vms import SnapshotFound

        self.requests.append(request)
        await self._enter("snapshot", vm_id)
        self._told(vm_id, generation)
        kind = "disk" if self._get(vm_id).state == "stopped" else "full"
        self.snapshots[vm_id, name] = kind
        return SnapshotFound(name=name, kind=kind, size=1024, created_at=datetime.now(timezone.utc))

    async def restore_snapshot(self, vm_id: str, name: str, generation: int, request: str) -> Any:
        await self._enter("restore", vm_id)
        self._told(vm_id, generation)
        if self.restored.get(vm_id) == request:
            return self._get(vm_id)
        if self._get(vm_id).state == "running":
            raise self._no(422, "NQR-VMM-113", "The VM runs; its disks cannot be replaced.")
        self.restored[vm_id] = request
        if self.snapshots[vm_id, name] == "full":
            self.alive(vm_id, self._get(vm_id).name).generation = generation
        return self._get(vm_id)

    async def delete_snapshot(self, vm_id: str, name: str, generation: int) -> None:
        await self._enter("delete_snapshot", vm_id)
        self._told(vm_id, generation)
        self.snapshots.pop((vm_id, name), None)

    async def delete_volume(self, name: str) -> None:
        await self._enter("delete_volume", name)
        if self.volumes is not None:
            self.volumes.pop(name, None)

    async def delete_tap(self, name: str) -> None:
        await self._enter("delete_tap", name)
        self.taps.pop(name, None)

    async def console_log(self, vm_id: str, tail: int | None = None) -> str:
        await self._enter("log", vm_id)
        return "tiny login: "[-(tail or 100) :]

    def console_url(self, vm_id: str) -> str:
        return f"ws://127.0.0.1:9/{vm_id}"

    def exec_url(self, vm_id: str) -> str:
        return f"ws://127.0.0.1:9/{vm_id}"

    async def console_options(self) -> dict[str, Any]:
        return {}


class SimulatedAgents:
    """By URL, whatever the token."""

    def __init__(self) -> None:
        self.by_url: dict[str, SimulatedAgent] = {}

    def at(self, url: str, command_token: str, tls: object = None, *, host_id: str = "") -> SimulatedAgent:
        return self.by_url.setdefault(url, SimulatedAgent())

    async def close(self) -> None:
        pass
