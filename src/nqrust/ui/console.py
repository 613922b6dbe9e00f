"""Relays a terminal in the browser to a VM's serial console, through the manager.

The browser never sees the ticket: this server opens the manager's WebSocket with it.
"""

from __future__ import annotations

import asyncio
import codecs
import json
from collections.abc import Awaitable, Callable

from nicegui import background_tasks, ui
from nicegui.events import XtermDataEventArguments
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from nqrust import loopback
from nqrust.client import calls
from nqrust.client.call import Call, websocket_url
from nqrust.client.manager import AsyncManagerClient, ClientError
from nqrust.contract.vms import ConsoleTicket
from nqrust.ui import parts

LEAVE = "\x1d"  # Ctrl-], as in telnet(1): leaves the terminal without a mouse
_PIECE = 32 * 1024
_TYPED, _MOST_TYPED = 4096, 256
"""Characters of a piece of input, and pieces that wait for a guest."""
_UNSEEN = 256 * 1024
"""Bytes that the browser may not have yet, and one piece more."""
_THEME = {"background": "#0e1216", "foreground": "#dfe5ea", "cursor": "#5cc0a7", "selectionBackground": "#33506a"}


class Console:
    """A terminal that connects on demand and shows its state."""

    noun = "console"

    def __init__(self, manager: AsyncManagerClient, vm: str) -> None:
        self._manager, self._vm = manager, vm
        self._socket: ClientConnection | None = None
        self._outgoing: asyncio.Queue[str] = asyncio.Queue(maxsize=_MOST_TYPED)
        self._running = False
        with parts.box("row-between"):
            self._status = parts.text("Not connected", "muted small").props('role="status"')
            with parts.box("actions"):
                parts.text("Ctrl-] leaves the terminal", "muted small")
                self._again = parts.quiet("Connect", self.open, icon="refresh")
        with parts.box("screen"):
            self._terminal = ui.xterm(
                {
                    "fontSize": 13,
                    "fontFamily": "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace",
                    "theme": _THEME,
                    "scrollback": 5000,
                    "screenReaderMode": True,
                },
                on_data=self._typed,
            )
            ui.element("q-resize-observer").props("debounce=300").on("resize", self._resized, [])
        ui.context.client.on_disconnect(self.close)

    async def open(self) -> None:
        """Connect, unless connected, and show the previous console output."""
        if self._running:
            return
        self._running = True
        self._outgoing = asyncio.Queue(maxsize=_MOST_TYPED)  # keys for an earlier connection are not for this one
        self._again.set_visibility(False)
        self._status.say("Connecting …")
        self._terminal.fit()
        background_tasks.create(self._relay(), name=f"{self.noun} {self._vm}")

    async def close(self) -> None:
        if self._socket is not None:
            await self._socket.close()

    def _typed(self, event: XtermDataEventArguments) -> None:
        if event.data == LEAVE:
            self._terminal.run_terminal_method("blur")
            return
        if self._socket is None:
            return
        for at in range(0, len(event.data), _TYPED):
            if self._outgoing.full():
                return
            self._outgoing.put_nowait(event.data[at : at + _TYPED])

    async def _relay(self) -> None:
        try:
            reason = await self._connection()
        except ClientError as error:
            reason = parts.explain(error)
        except ConnectionClosed as error:
            reason = why(error, self.noun)
        except (WebSocketException, OSError, TimeoutError) as error:
            reason = f"Cannot reach the {self.noun}: {error}."
        finally:
            self._socket = None
            self._running = False
            if not self._terminal.is_deleted:
                self._status.say(reason)
                self._again.set_text("Reconnect")
                self._again.set_visibility(True)

    async def _connection(self) -> str:
        """Connect, and relay until the end. Return its reason. Raises ClientError, WebSocketException, OSError, TimeoutError."""
        url = websocket_url(self._manager.base_url, await self._manager.send(self._ticket()))
        headers = self._manager.headers
        known = await asyncio.to_thread(loopback.connect, url)
        async with connect(url, sock=known, open_timeout=10, max_size=1 << 20, proxy=None, additional_headers=headers) as socket:
            self._socket = socket
            try:
                return await self._converse(socket) or socket.close_reason or f"The {self.noun} was closed."
            finally:
                self._socket = None

    def _connected(self) -> None:
        self._status.say("Connected")
        self._terminal.run_terminal_method("focus")

    def _ticket(self) -> Call[ConsoleTicket]:
        return calls.console_ticket(self._vm)

    async def _converse(self, socket: ClientConnection) -> str:
        """Relay until the end. Return its reason, or "" if the other side knows it."""
        self._connected()
        sender = asyncio.create_task(self._send(socket))
        try:
            seen = await receive(socket, self._terminal.write, self._shown)
        finally:
            sender.cancel()
        return "" if seen else f"The {self.noun} was closed: the browser does not answer."

    async def _shown(self) -> bool:
        """Wait until the browser has all output. Return False if it does not answer."""
        return await self._size() is not None

    async def _size(self) -> tuple[int, int] | None:
        """Return the terminal's rows and columns; None if the browser is slow, or gone. It has shown all earlier output then."""
        try:
            return (
                int(await self._terminal.run_method("getRows", timeout=10)),
                int(await self._terminal.run_method("getColumns", timeout=10)),
            )
        except (TimeoutError, asyncio.TimeoutError):
            return None

    async def _tell_size(self, socket: ClientConnection) -> None:
        """Send the terminal's rows and columns to the manager."""
        size = await self._size()
        if size is not None:
            await socket.send(self._resized_to(*size))

    def _resized_to(self, rows: int, columns: int) -> str | bytes:
        return json.dumps({"type": "resize", "rows": rows, "columns": columns})

    async def _resized(self) -> None:
        """Handle a new window size."""
        if self._socket is None:
            return
        self._terminal.fit()
        try:
            await self._tell_size(self._socket)
        except WebSocketException:
            return  # the relay reports it

    async def _send(self, socket: ClientConnection) -> None:
        await self._tell_size(socket)
        while True:
            await socket.send((await self._outgoing.get()).encode())


def why(error: ConnectionClosed, noun: str = "console") -> str:
    """Return the manager's reason for closing a console or a shell."""
    said = error.rcvd.reason if error.rcvd else ""
    return f"The {noun} was closed: {said.rstrip('.') or 'the connection was lost'}."


async def receive(socket: ClientConnection, write: Callable[[str], object], shown: Callable[[], Awaitable[bool]]) -> bool:
    """Pass input to `write`, in whole characters: a piece may end in the middle of one.

    A guest may write faster than a browser reads. So input waits for `shown` now and then. Return False if that did.
    """
    decoder, unseen = codecs.getincrementaldecoder("utf-8")("replace"), 0
    async for message in socket:
        data = message.encode() if isinstance(message, str) else message
        for at in range(0, len(data), _PIECE):
            decoded = decoder.decode(data[at : at + _PIECE])
            if decoded:
                write(decoded)
            unseen += len(data[at : at + _PIECE])
            if unseen >= _UNSEEN:
                unseen = 0
                if not await shown():
                    return False
    return True
