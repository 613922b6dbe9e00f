"""The console WebSocket: one viewer, one `screen -x` on a pseudo-terminal.

Binary messages are bytes, both ways. A text message is a control: {"type":"resize","rows":R,"columns":C}. Any other text
is typed. Close codes: 1000 the console ended, 4404 no such VM, 4409 the VM is not running.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from fastapi import WebSocket, WebSocketDisconnect

from nqrust.agent.errors import AgentError, Conflict
from nqrust.agent.scopes import launch
from nqrust.agent.vms.terminal import Terminal
from nqrust.contract.names import scope_name
from nqrust.host.environment import PATH

if TYPE_CHECKING:
    from nqrust.agent.vms.service import VmService

Run = Callable[[Callable[[], Any]], Awaitable[Any]]


async def serve(socket: WebSocket, service: VmService, run: Run, vm_id: str) -> None:
    await socket.accept()
    try:
        session = await run(lambda: session_of(service, vm_id))
    except AgentError as error:
        await socket.close(4404 if error.status == 404 else 4409, error.what[:120])
        return
    terminal = open_viewer(service, vm_id, session)
    sending = asyncio.create_task(_show(terminal, socket))
    typing = asyncio.create_task(_type(terminal, socket))
    try:
        await asyncio.wait({sending, typing}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, typing):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError, OSError):
                await task
        await terminal.close()
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await socket.close(1000)


def session_of(service: VmService, vm_id: str) -> str:
    """Return screen's full name of the VM's session, PID.fc-<id>. Raises NotFound, Conflict."""
    name = scope_name(service.status(vm_id).id)
    scope = service.scopes.get(vm_id)
    record = service.store.read(vm_id)
    folder = launch.screen_dir(service.settings, record.user if record else 0)
    if scope is not None:
        alive = {str(process.pid) for process in scope.processes}
        for entry in service.host.listdir(folder):
            pid, _, rest = entry.partition(".")
            if rest == name and pid in alive:
                return entry
        raise Conflict("NQR-VMM-110", "The VM runs, but its console is gone.", "Restart the VM to get a new console.")
    raise Conflict("NQR-VMM-104", "The VM does not run.", "Start the VM first.")


def viewer(service: VmService, vm_id: str, session: str) -> tuple[list[str], dict[str, str], int]:
    """Command, environment and user of a viewer. The environment is not the VM's own: a viewer is no part of its scope."""
    record = service.store.read(vm_id)
    user = record.user if record else 0
    program, *rest = launch.viewer(user, service.store.directory(vm_id), session, service.settings)
    environment = {
        "PATH": PATH,
        "HOME": "/",
        "LC_ALL": "C.UTF-8",
        "TERM": "xterm-256color",
        "SCREENDIR": launch.screen_dir(service.settings, user),
    }
    return [service.host.which(program) or f"/usr/bin/{program}", *rest], environment, user


def open_viewer(service: VmService, vm_id: str, session: str) -> Terminal:
    argv, environment, user = viewer(service, vm_id, session)
    return Terminal(argv, environment, owner=user)


async def _show(terminal: Terminal, socket: WebSocket) -> None:
    while data := await terminal.read():
        await socket.send_bytes(data)


async def _type(terminal: Terminal, socket: WebSocket) -> None:
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        data, text = message.get("bytes"), message.get("text")
        if data:
            await terminal.write(data)
        elif text:
            size = resize(text)
            if size is None:
                await terminal.write(text.encode())
            else:
                terminal.resize(*size)


def resize(text: str) -> tuple[int, int] | None:
    """Return rows and columns of a resize message, or None for any other text."""
    if not text.startswith("{"):
        return None
    try:
        message = json.loads(text)
        if message.get("type") != "resize":
            return None
        return int(message["rows"]), int(message["columns"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
