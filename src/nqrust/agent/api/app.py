"""The routes of `contract.agent`. Each verb runs in a thread, one at a time for each VM."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from typing import Annotated, TypeVar

from fastapi import FastAPI, Query, Response, WebSocket

import nqrust
from nqrust.agent.api import console, guest, metrics, problems
from nqrust.agent.api.auth import Authentication
from nqrust.agent.api.viewers import Viewers
from nqrust.agent.disks import volumes
from nqrust.agent.errors import Refused
from nqrust.agent.guest.channels import Channels
from nqrust.agent.vms import documents
from nqrust.agent.vms.service import VmService
from nqrust.agent.vms.snapshots import Snapshots
from nqrust.contract.agent import AgentHealth, Inventory, VmDocument, VmSpec, VmStatus
from nqrust.contract.vms import SnapshotFound, StopRequest

T = TypeVar("T")
Generation = Annotated[int | None, Query(ge=1, lt=2**31, description="of the manager's row; absent: not told")]
SnapshotRequest = Annotated[
    str, Query(max_length=64, description="identity of the request, the same in a retry; absent: not told")
]


_PUTS = 64
"""VMs that are made or started at once. They may wait for a download, so they take no thread from the other requests."""


class Verbs:
    """Runs blocking work off the event loop. `on_vm` runs the requests for one VM in order, one at a time.

    The work is shielded: a client that disconnects leaves no half-done verb.
    """

    def __init__(self, threads: int = 32) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="verb")
        self._locks: dict[str, asyncio.Lock] = {}
        self._waiting: dict[str, int] = defaultdict(int)

    async def run(self, work: Callable[[], T]) -> T:
        def safely() -> T:
            try:
                return work()
            except StopIteration as error:  # no future takes it: the request would never end, and hold its VM
                raise RuntimeError("a search found nothing") from error

        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._pool, safely))

    async def on_vm(self, vm_id: str, work: Callable[[], T], threads: Verbs | None = None) -> T:
        """`threads`: whose threads run it."""
        return await asyncio.shield(asyncio.ensure_future(self._serial(vm_id, work, threads)))

    async def on_idle_vm(self, vm_id: str, work: Callable[[], T], threads: Verbs | None = None) -> T | None:
        """Run the work, unless a request for the VM is at work: some take minutes."""

        async def unless_busy() -> T | None:
            return None if vm_id in self._locks else await self._serial(vm_id, work, threads)

        return await asyncio.shield(asyncio.ensure_future(unless_busy()))

    @asynccontextmanager
    async def holding(self, vm_id: str) -> AsyncIterator[None]:
        lock = self._locks.setdefault(vm_id, asyncio.Lock())
        self._waiting[vm_id] += 1
        try:
            async with lock:
                yield
        finally:
            self._waiting[vm_id] -= 1
            if not self._waiting[vm_id]:
                del self._waiting[vm_id], self._locks[vm_id]

    async def _serial(self, vm_id: str, work: Callable[[], T], threads: Verbs | None = None) -> T:
        async with self.holding(vm_id):
            return await (threads or self).run(work)


def build(
    service: VmService,
    verbs: Verbs,
    *,
    host_id: Callable[[], str | None],
    command_hashes: Callable[[], tuple[str, ...]],
    local_hash: str,
    has_certificate: Callable[[], bool] = lambda: False,
) -> FastAPI:
    app = FastAPI(
        title="NQRust-MicroVM agent",
        version=nqrust.__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url="/agent/v1/openapi.json",
    )
    snapshots, puts = Snapshots(service), Verbs(threads=_PUTS)
    problems.install(app)
    app.add_middleware(Authentication, command_hashes=command_hashes, local_hash=local_hash, has_certificate=has_certificate)

    @app.get("/agent/v1/health")
    async def health() -> AgentHealth:
        verdict = await verbs.run(service.verdict)
        return AgentHealth(
            version=nqrust.__version__,
            kvm=verdict.kvm,
            time=datetime.now(timezone.utc),
            vmm=verdict.vmm,
            accel=verdict.accel,
            registered=host_id() is not None,
        )

    @app.get("/agent/v1/inventory")
    async def inventory() -> Inventory:
        return await verbs.run(lambda: service.inventory(host_id()))

    @app.put("/agent/v1/vms/{vm_id}")
    async def put(vm_id: str, spec: VmSpec) -> VmStatus:
        if spec.id != vm_id:
            raise Refused(
                "NQR-API-703", "The id in the path differs from the id in the body.", "Send the same id in the path and the body."
            )
        return await verbs.on_vm(vm_id, lambda: service.put(spec), puts)

    @app.get("/agent/v1/vms/{vm_id}")
    async def get(vm_id: str) -> VmStatus:
        return await verbs.run(lambda: service.status(vm_id))

    @app.get("/agent/v1/vms/{vm_id}/record")
    async def record(vm_id: str) -> VmDocument:
        return await verbs.run(lambda: documents.document(service, snapshots, vm_id))

    @app.post("/agent/v1/vms/{vm_id}/stop")
    async def stop(vm_id: str, request: StopRequest | None = None, generation: Generation = None) -> VmStatus:
        return await verbs.on_vm(vm_id, lambda: service.stop(vm_id, request or StopRequest(), generation))

    @app.post("/agent/v1/vms/{vm_id}/pause")
    async def pause(vm_id: str, generation: Generation = None) -> VmStatus:
        return await verbs.on_vm(vm_id, lambda: service.pause(vm_id, generation))

    @app.post("/agent/v1/vms/{vm_id}/resume")
    async def resume(vm_id: str, generation: Generation = None) -> VmStatus:
        return await verbs.on_vm(vm_id, lambda: service.resume(vm_id, generation))

    @app.put("/agent/v1/vms/{vm_id}/snapshots/{name}")
    async def snapshot(vm_id: str, name: str, request: SnapshotRequest = "", generation: Generation = None) -> SnapshotFound:
        return await verbs.on_vm(vm_id, lambda: snapshots.create(vm_id, name, request, generation))

    @app.post("/agent/v1/vms/{vm_id}/snapshots/{name}/restore")
    async def restore(vm_id: str, name: str, generation: Generation = None, request: SnapshotRequest = "") -> VmStatus:
        return await verbs.on_vm(vm_id, lambda: snapshots.restore(vm_id, name, generation, request))

    @app.delete("/agent/v1/vms/{vm_id}/snapshots/{name}", status_code=204)
    async def delete_snapshot(vm_id: str, name: str, generation: Generation = None) -> None:
        await verbs.on_vm(vm_id, lambda: snapshots.delete(vm_id, name, generation))

    @app.delete("/agent/v1/vms/{vm_id}", status_code=204)
    async def delete(vm_id: str) -> None:
        await verbs.on_vm(vm_id, lambda: service.delete(vm_id))

    @app.delete("/agent/v1/volumes/{name}", status_code=204)
    async def delete_volume(name: str) -> None:
        await verbs.run(lambda: volumes.remove(service.host, service.settings.volumes_dir, name))

    @app.delete("/agent/v1/taps/{name}", status_code=204)
    async def delete_tap(name: str) -> None:
        await verbs.run(lambda: service.delete_tap(name))

    @app.get("/agent/v1/vms/{vm_id}/console/log")
    async def console_log(vm_id: str, tail: Annotated[int, Query(ge=1, le=1 << 20, description="bytes")] = 1 << 20) -> Response:
        text = await verbs.run(lambda: service.console_log(vm_id, tail))
        return Response(text, media_type="text/plain; charset=utf-8")

    viewers = Viewers()

    @app.websocket("/agent/v1/vms/{vm_id}/console")
    async def console_socket(socket: WebSocket, vm_id: str) -> None:
        await viewers.show(socket, lambda: console.serve(socket, service, verbs.run, vm_id))

    # Threads of their own: a VMM that a guest took over keeps its thread waiting, and all others of the host need the verbs.
    channels = Channels(service, Verbs(threads=8).run)

    @app.websocket("/agent/v1/vms/{vm_id}/exec")
    async def exec_socket(socket: WebSocket, vm_id: str) -> None:
        await viewers.show(socket, lambda: guest.serve(socket, channels, vm_id))

    @app.get("/metrics")
    async def prometheus() -> Response:
        found = await verbs.run(lambda: service.inventory(host_id()))
        return Response(metrics.render(found, service.verdict()), media_type=metrics.MEDIA_TYPE)

    return app
