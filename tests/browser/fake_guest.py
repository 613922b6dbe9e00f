"""A guest's side of a session: a shell of this machine on a terminal."""

from __future__ import annotations

import asyncio

from fastapi import WebSocket

from nqrust.agent.vms.terminal import Terminal
from nqrust.contract import guest


async def serve_shell(socket: WebSocket) -> None:
    """Serve one session. It gives credit for input, and waits for credit for its output."""
    await socket.accept()
    request = guest.ExecRequest.parse((await socket.receive_bytes())[1:])
    terminal = Terminal(
        ["/bin/sh", "-i"], {"PATH": "/usr/bin:/bin", "PS1": "shell# ", **{n.decode(): v.decode() for n, v in request.environment}}
    )
    terminal.resize(*request.terminal or (24, 80))
    await socket.send_bytes(guest.message(guest.Kind.started))
    credit = asyncio.Semaphore(0)
    room = [guest.WINDOW]

    async def show() -> None:
        while data := await terminal.read():
            for at in range(0, len(data), guest.MAX_PAYLOAD):
                piece = data[at : at + guest.MAX_PAYLOAD]
                while room[0] < len(piece):
                    await credit.acquire()
                room[0] -= len(piece)
                await socket.send_bytes(guest.message(guest.Kind.stdout, piece))
        await socket.send_bytes(guest.message(guest.Kind.exit, b"\0\3"))

    async def listen() -> None:
        while True:
            data = await socket.receive_bytes()
            kind, payload = data[0], data[1:]
            if kind == guest.Kind.stdin:
                await terminal.write(payload)
                await socket.send_bytes(guest.message(guest.Kind.credit, guest.credit(len(payload))))
            elif kind == guest.Kind.resize:
                terminal.resize(*guest.parse_size(payload))
            elif kind == guest.Kind.credit:
                room[0] += guest.parse_credit(payload)
                credit.release()

    work = [asyncio.ensure_future(show()), asyncio.ensure_future(listen())]
    try:
        await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        await terminal.close()
