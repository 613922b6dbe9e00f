"""The connection to one VM's guest agent, with all of its sessions.

The guest may be hostile. Each frame is checked before anything keeps it: its kind, its length, and that the session's viewer gave
credit for it. The first frame that should not be there ends the connection. So a guest makes the agent hold at most WINDOW bytes
for each session, and only as much work as viewers read.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections import deque
from collections.abc import Callable

from nqrust.contract import guest
from nqrust.contract.guest import MAX_PAYLOAD, OF_A_SESSION, RESYNC, WINDOW, Kind, ProtocolError

GREETING = 5.0
"""Seconds for the guest agent to answer. It may still be booting."""
_STALE = 8 << 20
"""Bytes of an earlier connection that are passed over before the answer."""
_STUCK = 30.0
"""Seconds for the guest to take what was sent."""
_UNSENT = 1 << 20
_STRAYS = 1024
_OUTPUT = (Kind.stdout, Kind.stderr)
_MANY = 1024
"""Messages of one session that wait for its viewer. Output that alternates with error is joined then."""
_AT_ONCE = 1 << 14
_FEW, _PAUSE = 64, 20e-6
"""Frames of one reading that need no pause, and seconds of it for each frame of more. A frame of one byte takes 4 µs: with the
pauses, a guest that sends nothing else takes a sixth of the agent's time."""


class GuestLost(Exception):
    """The connection to the guest has ended; the text says why."""


class GuestSilent(Exception):
    """Nothing in the guest answers."""


class Stream:
    """One session, from the agent's side."""

    def __init__(self, number: int, channel: Channel) -> None:
        self.number, self._channel = number, channel
        self._got: deque[tuple[Kind, bytearray]] = deque()
        self._changed = asyncio.Event()
        self._lost: str | None = None
        self.over = False
        """Its last message is here: `exit` or `error`."""
        self.output = WINDOW
        """Bytes that the guest may still send."""
        self._input = WINDOW
        """Bytes that may still be sent to the guest."""
        self._started = False

    async def receive(self) -> tuple[Kind, bytes]:
        """Return the next message of the guest. Raises GuestLost."""
        while not self._got:
            if self._lost is not None:
                raise GuestLost(self._lost)
            self._changed.clear()
            await self._changed.wait()
        kind, data = self._got.popleft()
        return kind, bytes(data)

    async def send(self, kind: Kind, payload: bytes = b"") -> None:
        """Send a message of the viewer. Raises ProtocolError if it may not send that, GuestLost."""
        if kind is Kind.stdin:
            if len(payload) > self._input:
                raise ProtocolError("more input than the guest takes")
            self._input -= len(payload)
        elif kind is Kind.credit:
            count = guest.parse_credit(payload)
            if self.output + count > WINDOW:
                raise ProtocolError("credit for output that never came")
            self.output += count
        elif kind is Kind.resize:
            guest.parse_size(payload)
        elif kind is not Kind.signal or len(payload) != 1:
            raise ProtocolError("that message is not expected here")
        if not self.over:
            await self._channel.send(kind, self.number, payload)

    async def close(self) -> None:
        """End the session. The program in the guest gets SIGHUP if it still runs."""
        await self._channel.close_stream(self)

    def take(self, kind: Kind, payload: bytes) -> None:
        """Keep a message of the guest. Raises ProtocolError."""
        if kind in _OUTPUT:
            if not 1 <= len(payload) <= self.output:
                raise ProtocolError("output without credit")
            self.output -= len(payload)
        elif kind is Kind.credit:
            count = guest.parse_credit(payload)
            if self._input + count > WINDOW:
                raise ProtocolError("credit for input that was not sent")
            self._input += count
        elif kind is Kind.started:
            if self._started or payload:
                raise ProtocolError("a session starts once")
            self._started = True
        elif kind is Kind.exit:
            guest.parse_exit(payload)
        elif kind is Kind.error:
            guest.parse_error(payload)
        self.over = kind in (Kind.exit, Kind.error)
        last, before = self._got[-1] if self._got else None, self._before(kind)
        if before is not None and len(before) + len(payload) <= MAX_PAYLOAD:
            before.extend(payload)  # a guest that sends single bytes costs no more than one that does not
        elif last and last[0] is kind is Kind.credit:
            last[1][:] = guest.credit(guest.parse_credit(bytes(last[1])) + guest.parse_credit(payload))
        else:
            self._got.append((kind, bytearray(payload)))
        self._changed.set()

    def _before(self, kind: Kind) -> bytearray | None:
        """Return the message that output of this kind continues. Output and error may overtake each other if many wait."""
        if kind not in _OUTPUT:
            return None
        if self._got and self._got[-1][0] is kind:
            return self._got[-1][1]
        many = len(self._got) >= _MANY and self._got[-1][0] in _OUTPUT and self._got[-2][0] is kind
        return self._got[-2][1] if many else None

    def lose(self, why: str) -> None:
        self._lost = why
        self._changed.set()


class Channel:
    """`open` a connection, `stream` a session, until `ended`. `over` is called once at its end."""

    def __init__(self, link: socket.socket, over: Callable[[Channel], None] = lambda _: None) -> None:
        self._link, self._over = link, over
        self._streams: dict[int, Stream] = {}
        self._next = int.from_bytes(os.urandom(3), "big")  # not the numbers of an earlier connection
        self._frames = guest.Frames()
        self._strays = _STRAYS
        self._sending = asyncio.Lock()
        self.ended = False

    @property
    def sessions(self) -> int:
        return len(self._streams)

    async def open(self) -> None:
        """Greet the guest agent. Raises GuestSilent."""
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self._link)
        try:
            rest = await asyncio.wait_for(self._greet(), GREETING)
        except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, GuestSilent) as error:
            self._end("")
            raise GuestSilent(str(error)) from error
        self._task = asyncio.create_task(self._listen(rest))

    def stream(self) -> Stream:
        """Make a session. Raises GuestLost."""
        if self.ended:
            raise GuestLost("the connection has ended")
        self._next = (self._next + 1) % 2**32
        stream = self._streams[self._next] = Stream(self._next, self)
        return stream

    async def send(self, kind: Kind, stream: int, payload: bytes = b"") -> None:
        """Raises GuestLost."""
        async with self._sending:
            if self.ended:
                raise GuestLost("the connection has ended")
            self._writer.write(guest.frame(kind, stream, payload))
            try:
                await asyncio.wait_for(self._writer.drain(), _STUCK)
            except (OSError, asyncio.TimeoutError) as error:
                self._end("the guest takes no input")
                raise GuestLost("the guest takes no input") from error

    async def close_stream(self, stream: Stream) -> None:
        if self._streams.pop(stream.number, None) is None or stream.over or self.ended:
            return
        self._strays += stream.output + _STRAYS  # what is under way
        if self._writer.transport.get_write_buffer_size() > _UNSENT:
            self._end("the guest takes no input")
        else:
            self._writer.write(guest.frame(Kind.close, stream.number))

    async def close(self) -> None:
        self._end("the connection was closed")
        with contextlib.suppress(asyncio.CancelledError):
            self._task.cancel()
            await self._task

    async def _greet(self) -> bytes:
        """Return what came after the answer. Half frames of an earlier connection may be before it."""
        nonce = secrets.token_bytes(guest.NONCE)
        self._writer.write(guest.hello(nonce))
        await self._writer.drain()
        answer, seen, window = guest.welcome(nonce), 0, b""
        while seen <= _STALE:
            data = await self._reader.read(_AT_ONCE)
            if not data:
                raise GuestSilent("the connection ended")
            seen += len(data)
            window += data
            at = window.find(answer)
            if at >= 0:
                return window[at + len(answer) :]
            window = window[-len(answer) :]
        raise GuestSilent("there is no end of what it sends")

    async def _listen(self, data: bytes) -> None:
        why = "the connection to the guest ended: the VM stopped, or its guest agent did"
        try:
            while True:
                frames = self._frames.feed(data)
                for kind, number, payload in frames:
                    self._take(kind, number, payload)
                if len(frames) > _FEW:
                    await asyncio.sleep(len(frames) * _PAUSE)
                if self._frames.padding > len(RESYNC):
                    raise ProtocolError("nothing but padding")
                data = await self._reader.read(_AT_ONCE)
                if not data:
                    break
        except GuestLost as error:
            why = str(error)
        except ProtocolError as error:
            why = f"the guest breaks the protocol: {error}"
        except OSError:
            pass
        finally:
            self._end(why)

    def _take(self, kind: int, number: int, payload: bytes) -> None:
        if kind == Kind.boot:
            raise GuestLost("the guest agent started again")
        stream = self._streams.get(number)
        if stream is None:
            self._strays -= max(len(payload), 1)
            if self._strays < 0:
                raise ProtocolError("frames of no session")
            return
        if kind not in OF_A_SESSION:
            raise ProtocolError("a frame of another kind")
        stream.take(Kind(kind), payload)
        if stream.over:
            del self._streams[number]
            self._strays = min(self._strays + WINDOW, 1 << 24)  # of input: the guest may still give credit for it

    def _end(self, why: str) -> None:
        if self.ended:
            return
        self.ended = True
        self._writer.close()
        for stream in self._streams.values():
            stream.lose(why)
        self._streams.clear()
        self._over(self)
