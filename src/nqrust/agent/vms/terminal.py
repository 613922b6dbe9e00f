"""A program on its own pseudo-terminal: a viewer of a VM's console. pty(7), posix_spawn(3).

The agent has threads, so this uses posix_spawn, not fork. The child gets a new session. The first terminal that it opens,
its standard input, becomes its controlling terminal.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import struct
import termios
from collections.abc import Mapping, Sequence

_PIECE = 65536
_PATIENCE = 30.0  # seconds


class Terminal:
    """`read` gives what the program shows, b"" at its end; `write` is the keyboard. `close` ends the program.
    `owner`: number of the user that may open the terminal."""

    def __init__(
        self, argv: Sequence[str], environment: Mapping[str, str], *, owner: int = 0, rows: int = 24, columns: int = 80
    ) -> None:
        self._master, slave = os.openpty()
        try:
            path = os.ttyname(slave)
            os.fchown(slave, owner, -1)
            self.resize(rows, columns)
            self._pid = os.posix_spawn(
                argv[0],
                list(argv),
                dict(environment),
                setsid=True,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, path, os.O_RDWR, 0),
                    (os.POSIX_SPAWN_DUP2, 0, 1),
                    (os.POSIX_SPAWN_DUP2, 0, 2),
                ],
            )
        except BaseException:
            os.close(self._master)
            raise
        finally:
            os.close(slave)
        os.set_blocking(self._master, False)
        self._loop = asyncio.get_running_loop()

    async def read(self) -> bytes:
        while True:
            await self._until_readable()
            try:
                return os.read(self._master, _PIECE)
            except BlockingIOError:
                continue
            except OSError:  # EIO: the other side is closed
                return b""

    async def _until_readable(self) -> None:
        """Watch the terminal only while somebody reads: the loop would turn without a pause for a viewer that does not."""
        readable = asyncio.Event()
        self._loop.add_reader(self._master, readable.set)
        try:
            await readable.wait()
        finally:
            self._loop.remove_reader(self._master)

    async def write(self, data: bytes) -> None:
        """Raises TimeoutError if nobody takes input any more: the end of the viewer would not be noticed meanwhile."""
        until = self._loop.time() + _PATIENCE
        while data:
            try:
                data = data[os.write(self._master, data) :]
                until = self._loop.time() + _PATIENCE
            except BlockingIOError:
                if self._loop.time() > until:
                    raise TimeoutError("the terminal takes no input") from None
                await asyncio.sleep(0.01)

    def resize(self, rows: int, columns: int) -> None:
        size = struct.pack("HHHH", max(1, min(rows, 500)), max(1, min(columns, 1000)), 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    async def close(self) -> None:
        """Hang up like a terminal that is switched off: screen detaches, the VM does not notice."""
        with contextlib.suppress(OSError):
            os.close(self._master)
        for step in (signal.SIGHUP, signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, step)
            for _ in range(50):
                if self._ended():
                    return
                await asyncio.sleep(0.01)

    def _ended(self) -> bool:
        try:
            return os.waitpid(self._pid, os.WNOHANG)[0] != 0
        except ChildProcessError:
            return True
