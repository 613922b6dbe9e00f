"""The connections to the guest agents of this host's VMs: one for each VM, made when a session needs it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any
from weakref import WeakValueDictionary

import structlog

from nqrust.agent.errors import Conflict, Failed
from nqrust.agent.guest import channel
from nqrust.agent.guest.channel import Channel, GuestSilent, Stream
from nqrust.agent.vms.service import VmService
from nqrust.contract.guest import ExecRequest, Kind
from nqrust.host.errors import HostError

log = structlog.get_logger("nqrust.agent.guest")

_AGAIN = 0.05
"""Seconds until a guest that did not listen is asked again."""
MOST = 16
"""Sessions of a VM at the same time."""
Run = Callable[[Callable[[], Any]], Awaitable[Any]]


class Channels:
    """`run` does blocking work off the event loop."""

    def __init__(self, service: VmService, run: Run) -> None:
        self._service, self._run = service, run
        self._open: dict[str, Channel] = {}
        self._opening: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def start(self, vm_id: str, request: ExecRequest) -> Stream:
        """Ask the guest to run `request`. Its first message says whether it did. Raises NotFound, Conflict, Failed, GuestLost."""
        async with self._opening.setdefault(vm_id, asyncio.Lock()):
            channel = self._open.get(vm_id) or await self._connect(vm_id)
        if channel.sessions >= MOST:
            raise Conflict("NQR-VMM-126", f"The VM has {MOST} sessions already.", "End one of them.", status=429)
        stream = channel.stream()
        await channel.send(Kind.exec, stream.number, request.encode())
        return stream

    async def _connect(self, vm_id: str) -> Channel:
        link = await self._listening(vm_id)

        def over(ended: Channel) -> None:
            if self._open.get(vm_id) is ended:
                del self._open[vm_id]

        channel = Channel(link, over)
        try:
            await channel.open()
        except GuestSilent as error:
            log.info("guest agent silent", vm=vm_id, why=str(error))
            raise _silent() from error
        self._open[vm_id] = channel
        return channel

    async def _listening(self, vm_id: str) -> socket.socket:
        """Return a connection to the guest agent. A guest under Firecracker that boots refuses it: ask again until GREETING, which a
        guest under QEMU may take, too. Raises Conflict, Failed."""
        until = time.monotonic() + channel.GREETING
        while True:
            try:
                return await self._run(lambda: self._link(vm_id))  # type: ignore[no-any-return]
            except ConnectionError as error:
                if time.monotonic() >= until:
                    raise _silent() from error
            await asyncio.sleep(_AGAIN)

    def _link(self, vm_id: str) -> socket.socket:
        directory, driver = self._service.running(vm_id)
        record = self._service.store.read(vm_id)
        if record is None or not record.guest_exec:
            raise Conflict(
                "NQR-VMM-124",
                "The VM allows no commands (guest_exec is off).",
                "Use its console, or create it with --guest-exec.",
            )
        try:
            link = driver.connect_guest(directory)
        except ConnectionError:
            raise
        except (OSError, HostError) as error:
            raise Conflict(
                "NQR-VMM-127",
                "The VM has no port for commands: it runs since before this version, or from a snapshot of that time.",
                "Stop the VM and start it.",
            ) from error
        link.setblocking(False)
        return link


def _silent() -> Failed:
    return Failed(
        "NQR-VMM-125",
        "No guest agent in the VM answers.",
        "Wait until the guest has booted. Its image needs a guest agent of version 0.3.0 or later.",
        status=504,
    )
