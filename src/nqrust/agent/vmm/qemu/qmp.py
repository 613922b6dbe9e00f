"""A QMP conversation, held by `qemu.qmp`. https://www.qemu.org/docs/master/interop/qmp-spec.html

QEMU serves one client at a time and the others wait. A conversation is short: connect, negotiate, ask, disconnect.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

from qemu.qmp import ConnectError, ExecInterruptedError, QMPClient, QMPError
from qemu.qmp.message import Message

from nqrust.agent.vmm.sockets import pinned

logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)  # the errors that it raises contain the same text

_GONE = (ConnectionRefusedError, ConnectionResetError, FileNotFoundError, EOFError)
_LEAVING = 1.0  # seconds
_MOST = 256  # messages of a conversation. QEMU itself sends few events for each answer
_LARGEST = 1 << 18  # bytes of all of them; the parsed form of a line takes many times its length


class _Client(QMPClient):
    """QEMU may be hostile by now: a conversation has few messages, and few bytes."""

    def __init__(self) -> None:
        super().__init__(readbuflen=_LARGEST)
        self.events.event_filter = _nothing  # what nobody reads would pile up
        self._messages = self._bytes = 0

    async def _readline(self) -> bytes:
        line = await super()._readline()
        self._messages, self._bytes = self._messages + 1, self._bytes + len(line)
        if self._messages > _MOST or self._bytes > _LARGEST:
            raise QmpError("there is no end of what it says")
        return line


class QmpError(Exception):
    """No connection, no answer in time, or an error answer."""


class QmpGone(QmpError):
    """QEMU is not running, or it closed the connection."""


class Qmp:
    """Context manager for a thread without an event loop. `timeout`: seconds for the whole conversation."""

    def __init__(self, path: str, timeout: float = 5.0) -> None:
        self._path, self._deadline = path, time.monotonic() + timeout

    def __enter__(self) -> Qmp:
        self._loop, self._client = asyncio.new_event_loop(), _Client()
        try:
            with pinned(self._path) as path:
                self._answer("connect", lambda: self._client.connect(path))
        except (QmpError, OSError) as error:
            self._loop.close()
            raise error if isinstance(error, QmpError) else QmpGone(f"connect: {error}") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(Exception):  # the earlier error was reported
            self._loop.run_until_complete(asyncio.wait_for(self._client.disconnect(), _LEAVING))
        self._loop.close()

    def give(self, name: str, descriptor: int) -> None:
        """Pass QEMU an open file, which it then knows as `fd:name`. unix(7), SCM_RIGHTS."""
        try:
            self._client.send_fd_scm(descriptor)
        except (QMPError, OSError) as error:
            raise QmpError(f"getfd: {error}") from error
        self.execute("getfd", fdname=name)

    def execute(self, name: str, **arguments: Any) -> Any:
        """Return QEMU's result. Raises QmpError."""
        return self._answer(name, lambda: self._client.execute(name, arguments or None))

    def ask(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Return QEMU's result where it must be an object. Raises QmpError."""
        answer = self.execute(name, **arguments)
        if not isinstance(answer, dict):
            raise QmpError(f"{name}: the answer is not an object")
        return answer

    def _answer(self, name: str, ask: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return self._loop.run_until_complete(asyncio.wait_for(ask(), self._deadline - time.monotonic()))
        except Exception as error:  # QEMU may be hostile by now, and its answers may be of any form
            cause = error.exc if isinstance(error, ConnectError) else error
            kind = QmpGone if isinstance(cause, (*_GONE, ExecInterruptedError)) else QmpError
            raise kind(f"{name}: {str(error) or 'no answer in time'}") from error


def _nothing(event: Message) -> bool:
    return False
