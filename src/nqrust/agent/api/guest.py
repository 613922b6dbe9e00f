"""The WebSocket of a session in a guest: `contract.guest` has its messages and close codes.

The first message is the request. Closing the WebSocket ends the session.
"""

from __future__ import annotations

import asyncio
import contextlib

import structlog
from fastapi import WebSocket, WebSocketDisconnect

from nqrust.agent.errors import AgentError
from nqrust.agent.guest.channel import GuestLost, Stream
from nqrust.agent.guest.channels import Channels
from nqrust.contract import guest
from nqrust.contract.guest import CloseCode, ExecRequest, Kind, ProtocolError

log = structlog.get_logger("nqrust.agent.guest")

_FIRST = 10.0
"""Seconds for the request."""
_FROM_VIEWER = {Kind.stdin, Kind.credit, Kind.resize, Kind.signal}
_CLOSE = {404: CloseCode.no_such_vm, 429: CloseCode.too_many, 504: CloseCode.no_answer}


async def serve(socket: WebSocket, channels: Channels, vm_id: str) -> None:
    await socket.accept()
    try:
        _, payload = await asyncio.wait_for(_message(socket, {Kind.exec}), _FIRST)
        stream = await channels.start(vm_id, ExecRequest.parse(payload))
    except AgentError as error:
        await _close(socket, _CLOSE.get(error.status, CloseCode.not_running), f"{error.code}: {error.what}")
        return
    except GuestLost as error:
        await _close(socket, CloseCode.lost, str(error))
        return
    except (ProtocolError, asyncio.TimeoutError) as error:
        await _close(socket, CloseCode.bad_message, str(error) or "no request came")
        return
    except WebSocketDisconnect:
        return
    log.info("session started", vm=vm_id, session=stream.number)
    try:
        code, reason = await _between(socket, stream)
    finally:
        await stream.close()
        log.info("session ended", vm=vm_id, session=stream.number)
    if code:
        await _close(socket, code, reason)


async def _between(socket: WebSocket, stream: Stream) -> tuple[int, str]:
    """Pass messages until the session or the WebSocket ends. Return the close code (0: it is closed) and a reason."""
    out, back = asyncio.create_task(_to_viewer(socket, stream)), asyncio.create_task(_to_guest(socket, stream))
    try:
        done, _ = await asyncio.wait({out, back}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (out, back):
            task.cancel()
        await asyncio.gather(out, back, return_exceptions=True)
    ended = out if out in done else back
    try:
        ended.result()
        return (1000, "") if ended is out else (0, "")
    except GuestLost as error:
        return CloseCode.lost, str(error)
    except ProtocolError as error:
        return CloseCode.bad_message, str(error)
    except (WebSocketDisconnect, RuntimeError, OSError):
        return 0, ""


async def _to_viewer(socket: WebSocket, stream: Stream) -> None:
    while True:
        kind, payload = await stream.receive()
        await socket.send_bytes(guest.message(kind, payload))
        if kind in (Kind.exit, Kind.error):
            return


async def _to_guest(socket: WebSocket, stream: Stream) -> None:
    while True:
        await stream.send(*await _message(socket, _FROM_VIEWER))


async def _message(socket: WebSocket, allowed: set[Kind]) -> tuple[Kind, bytes]:
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1006))
    return guest.parse_message(message.get("bytes"), allowed)


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):
        await socket.close(code, reason[:120])
