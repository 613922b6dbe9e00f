"""Relays a terminal in the browser to root's shell in a guest: a session of `contract.guest`, through the manager.

The output waits for the browser. So a guest that writes without end fills neither this server nor the browser.
"""

from __future__ import annotations

import asyncio
import codecs
from datetime import datetime, timezone

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from nqrust.client import calls
from nqrust.client.call import Call
from nqrust.client.waiting import boots_for
from nqrust.contract import guest
from nqrust.contract.guest import CloseCode, ExecRequest, Kind, ProtocolError
from nqrust.contract.text import plain
from nqrust.contract.vms import ConsoleTicket
from nqrust.ui.console import Console

_CREDIT_AT = guest.WINDOW // 4
_TERM = b"xterm-256color"
_USUAL = (24, 80)
_AGAIN = 0.25
"""Seconds until a guest that did not answer is asked again. The agent waits longer for it."""


class Shell(Console):
    """A terminal with a new shell at each connection. The shell ends with the connection."""

    noun = "shell"

    def _ticket(self) -> Call[ConsoleTicket]:
        return calls.exec_ticket(self._vm)

    async def _connection(self) -> str:
        """Connect. While the guest boots, wait for it, as `nqr vm shell` does."""
        while True:
            boots = await self._boots()
            if boots:
                self._status.say("Waiting for the guest …")
            try:
                return await super()._connection()
            except ConnectionClosed as error:
                silent = error.rcvd is not None and error.rcvd.code == CloseCode.no_answer
                if not (silent and boots) or self._terminal.is_deleted:
                    raise
            await asyncio.sleep(_AGAIN)

    async def _boots(self) -> bool:
        vm = await self._manager.send(calls.get_vm(self._vm))
        return boots_for(vm, datetime.now(timezone.utc)) > 0

    async def _converse(self, socket: ClientConnection) -> str:
        request = ExecRequest(environment=((b"TERM", _TERM),), terminal=await self._size() or _USUAL)
        await socket.send(guest.message(Kind.exec, request.encode()))
        self._room, self._more = guest.WINDOW, asyncio.Event()
        sender = asyncio.create_task(self._send(socket))
        try:
            return await self._receive(socket)
        except ProtocolError as error:
            return f"The guest broke the protocol of the shell: {error}."
        finally:
            sender.cancel()

    async def _receive(self, socket: ClientConnection) -> str:
        decoder, unsaid = codecs.getincrementaldecoder("utf-8")("replace"), 0
        async for data in socket:
            kind, payload = guest.parse_message(data, guest.OF_A_SESSION)
            if kind in (Kind.stdout, Kind.stderr):
                self._terminal.write(decoder.decode(payload))
                unsaid += len(payload)
                if unsaid >= _CREDIT_AT:
                    if await self._size() is None:
                        return "The shell was closed: the browser does not answer."
                    await socket.send(guest.message(Kind.credit, guest.credit(unsaid)))
                    unsaid = 0
            elif kind is Kind.started:
                self._connected()
            elif kind is Kind.credit:
                self._room += guest.parse_credit(payload)
                self._more.set()
            elif kind is Kind.exit:
                return f"The shell ended with exit code {guest.parse_exit(payload)}."
            elif kind is Kind.error:
                return f"The guest cannot start a shell: {plain(guest.parse_error(payload)[1])}."
        return ""

    async def _send(self, socket: ClientConnection) -> None:
        while True:
            data = (await self._outgoing.get()).encode()
            while data:
                while not self._room:
                    self._more.clear()
                    await self._more.wait()
                count = min(self._room, guest.MAX_PAYLOAD, len(data))
                self._room -= count
                await socket.send(guest.message(Kind.stdin, data[:count]))
                data = data[count:]

    def _resized_to(self, rows: int, columns: int) -> bytes:
        return guest.message(Kind.resize, guest.size(rows, columns))
