"""WebSockets of consoles and of sessions in guests: a pipe between the viewer and the host's agent. Closing a console does not
affect the VM. Closing a session ends its command.

The manager closes it if the user signs out or loses the permission.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog
from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from nqrust.contract.auth import Role
from nqrust.manager import audit
from nqrust.manager.access.authentication import still_may
from nqrust.manager.core.agents import AgentAway
from nqrust.manager.core.core import Core
from nqrust.manager.core.principal import Principal
from nqrust.manager.core.tickets import CONSOLE, EXEC, Ticket
from nqrust.manager.errors import DatabaseAway, ManagerError, TooManyViewers
from nqrust.manager.store.tables import Host
from nqrust.manager.vms import service as vms

router = APIRouter()
log = structlog.get_logger("nqrust.manager.console")

NOT_FOUND, NOT_RUNNING, NOT_PERMITTED, TOO_MANY, AGENT_AWAY = 4404, 4409, 4403, 4429, 4502
CHECK_SECONDS = 30.0
_LOST = "you were signed out, or may no longer use consoles"


@router.websocket("/v1/vms/{vm}/console")
async def console(socket: WebSocket, vm: str) -> None:
    """Open the console, with a ticket (checked and used at the gate) or an operator's Authorization header."""
    await _serve(socket, vm, CONSOLE)


@router.websocket("/v1/vms/{vm}/exec")
async def exec_(socket: WebSocket, vm: str) -> None:
    """Open a session in the guest, as a console is opened. `contract.guest` has its messages."""
    await _serve(socket, vm, EXEC)


async def _serve(socket: WebSocket, vm: str, purpose: str) -> None:
    core: Core = socket.state.core
    principal: Principal = socket.state.principal
    ticket: Ticket | None = getattr(socket.state, "ticket", None)
    await socket.accept()
    not_for_this = "this ticket is for something else, or the role operator is needed"
    if ticket is None and not principal.may(Role.operator):
        # Before the look for the VM, whose answer would tell whether there is one.
        await _refuse(socket, NOT_PERMITTED, not_for_this)
        return
    try:
        async with core.db.transaction() as session:
            found = await vms.find(session, vm)
            host = await session.get(Host, found.host_id) if found.host_id else None
    except ManagerError as error:
        await _refuse(socket, NOT_FOUND, error.detail)
        return
    if ticket is not None and (ticket.purpose, ticket.vm_id) != (purpose, found.id):
        await _refuse(socket, NOT_PERMITTED, not_for_this)
        return
    if host is None:
        await _refuse(socket, NOT_RUNNING, "the VM is on no host yet")
        return
    try:
        with core.viewers.place(principal, found.id, host.id):
            await _show(socket, host, found.id, purpose)
    except TooManyViewers as error:
        await _refuse(socket, TOO_MANY, error.detail)


async def _show(socket: WebSocket, host: Host, vm_id: str, purpose: str) -> None:
    core: Core = socket.state.core
    principal: Principal = socket.state.principal
    try:
        agent = core.agent_of(host)
        upstream = await connect(
            agent.exec_url(vm_id) if purpose == EXEC else agent.console_url(vm_id),
            **await agent.console_options(),
            open_timeout=10,
            compression=None,
            proxy=None,
            max_size=1024 * 1024,
        )
    except InvalidStatus as error:
        code = NOT_FOUND if error.response.status_code == 404 else AGENT_AWAY
        await _refuse(socket, code, f"the agent answers {error.response.status_code}")
        return
    except AgentAway as error:
        await _refuse(socket, AGENT_AWAY, str(error))
        return
    except (OSError, WebSocketException, asyncio.TimeoutError, TimeoutError):
        await _refuse(socket, AGENT_AWAY, "the host's agent does not answer")
        return
    if await _lost(core, principal):
        await upstream.close()
        await _refuse(socket, NOT_PERMITTED, _LOST)
        return
    await _record(socket, 101)
    log.info(f"{purpose} opened", vm=vm_id, actor=principal.name)
    try:
        await _pipe(socket, upstream, core, principal)
    finally:
        await upstream.close()
        log.info(f"{purpose} closed", vm=vm_id, actor=principal.name)


async def _refuse(socket: WebSocket, code: int, reason: str) -> None:
    """Close a console that was not opened. The audit log has the HTTP status that the close code stands for."""
    await _record(socket, code - 4000)
    await socket.close(code, reason[:120])


async def _record(socket: WebSocket, status: int) -> None:
    core: Core = socket.state.core
    principal: Principal = socket.state.principal
    if status >= 400 and not socket.state.refusals.allow(audit.SENDER + principal.name):
        return
    await audit.write(
        core,
        socket.scope["state"],
        actor=principal.name,
        method="GET",
        path=socket.url.path,
        status=status,
        action="open_session" if socket.url.path.endswith("/exec") else "open_console",
        target=socket.state.subject.of(socket.path_params),
    )


async def _pipe(socket: WebSocket, upstream: ClientConnection, core: Core, principal: Principal) -> None:
    down = asyncio.create_task(_downstream(socket, upstream))
    up = asyncio.create_task(_upstream(socket, upstream))
    lost = asyncio.create_task(_until_not_permitted(core, principal))
    try:
        done, _ = await asyncio.wait({down, up, lost}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (down, up, lost):
            task.cancel()
        await asyncio.gather(down, up, lost, return_exceptions=True)
    if lost in done:
        with suppress(RuntimeError, WebSocketDisconnect, asyncio.TimeoutError):  # disconnect a viewer that does not read
            await asyncio.wait_for(socket.close(NOT_PERMITTED, _LOST), 5)


async def _until_not_permitted(core: Core, principal: Principal) -> None:
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        if await _lost(core, principal):
            return


async def _lost(core: Core, principal: Principal) -> bool:
    """Return whether the user may no longer use consoles. While the database is away, nobody is known to have lost that."""
    with suppress(DatabaseAway):
        return not await still_may(core, principal, Role.operator)
    return False


async def _downstream(socket: WebSocket, upstream: ClientConnection) -> None:
    code, reason = 1000, ""
    try:
        async for message in upstream:
            if isinstance(message, str):
                await socket.send_text(message)
            else:
                await socket.send_bytes(message)
        code, reason = upstream.close_code or 1000, upstream.close_reason or ""
    except ConnectionClosed as error:
        # 1006 and similar codes are local observations and must not be sent (RFC 6455, 7.4.1).
        code = error.rcvd.code if error.rcvd else AGENT_AWAY
        reason = error.rcvd.reason if error.rcvd else "the connection to the host's agent broke"
    except (WebSocketDisconnect, RuntimeError):
        return
    try:
        await socket.close(code if code == 1000 or code >= 3000 else 1011, reason[:120])
    except (RuntimeError, WebSocketDisconnect):
        pass


async def _upstream(socket: WebSocket, upstream: ClientConnection) -> None:
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            data = message.get("bytes")
            await upstream.send(data if data is not None else message.get("text") or "")
    except (ConnectionClosed, RuntimeError, WebSocketDisconnect):
        return
