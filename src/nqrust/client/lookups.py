"""Lookups of hosts' names, each in a thread of its own. While no name server answers, getaddrinfo(3) takes half a minute. The
threads of asyncio are few, and everything else of the manager shares them."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from contextlib import suppress
from typing import Any

import httpcore


class Lookups:
    """The lookups for one host or user, who chooses the names: `most` at a time. Each is for all who ask for its name meanwhile."""

    def __init__(self, most: int = 1) -> None:
        self._most = most
        self._running: dict[str, asyncio.Future[tuple[str, ...] | OSError]] = {}

    async def addresses(self, name: str) -> tuple[str, ...]:
        """Return the addresses of `name`. Raises OSError."""
        if is_address(name):
            return (name,)
        while name not in self._running and len(self._running) >= self._most:
            await asyncio.wait(self._running.values(), return_when=asyncio.FIRST_COMPLETED)
        if name not in self._running:
            self._running[name] = _begin(name)
            self._running[name].add_done_callback(lambda _: self._running.pop(name))
        found = await asyncio.shield(self._running[name])
        if isinstance(found, OSError):
            raise found
        return found

    async def attempts(self, name: str, timeout: float | None) -> list[tuple[str, float | None]]:
        """Return each address of `name`, and the seconds that it gets of `timeout`. Raises OSError, asyncio.TimeoutError."""
        clock = asyncio.get_running_loop().time
        began = clock()
        found = await asyncio.wait_for(self.addresses(name), timeout)
        seconds = None if timeout is None else max(0.0, timeout - (clock() - began)) / len(found)
        return [(address, seconds) for address in found]

    async def connect(self, name: str, port: int, timeout: float) -> socket.socket:
        """Return a connected socket that does not block. Raises OSError, asyncio.TimeoutError."""
        failed: Exception = OSError(f"{name} has no address")
        for address, seconds in await self.attempts(name, timeout):
            made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
            made.setblocking(False)
            try:
                await asyncio.wait_for(asyncio.get_running_loop().sock_connect(made, (address, port)), seconds)
                return made
            except (OSError, asyncio.TimeoutError) as error:
                made.close()
                failed = error
            except BaseException:
                made.close()
                raise
        raise failed


class LookedUp(httpcore.AsyncNetworkBackend):
    """Connects to the addresses that `lookups` finds."""

    def __init__(self, inner: httpcore.AsyncNetworkBackend, lookups: Lookups) -> None:
        self._inner, self._lookups = inner, lookups

    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *arguments: Any, **options: Any
    ) -> httpcore.AsyncNetworkStream:
        failed: Exception = httpcore.ConnectError(f"{host} has no address")
        try:
            for address, seconds in await self._lookups.attempts(host, timeout):
                try:
                    return await self._inner.connect_tcp(address, port, seconds, *arguments, **options)
                except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                    failed = error
        except asyncio.TimeoutError:
            failed = httpcore.ConnectTimeout(f"no answer yet to the question for the address of {host}")
        except OSError as error:
            failed = httpcore.ConnectError(f"{host} has no address: {error}")
        raise failed

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _begin(name: str) -> asyncio.Future[tuple[str, ...] | OSError]:
    """Start a lookup. Its end, a failure too, is the result. The end of the program does not wait for the thread."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[tuple[str, ...] | OSError] = loop.create_future()

    def tell(result: tuple[str, ...] | OSError) -> None:
        if not found.done():
            found.set_result(result)

    def look() -> None:
        try:
            rows = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            result: tuple[str, ...] | OSError = tuple(dict.fromkeys(str(row[4][0]) for row in rows))
        except OSError as error:
            result = error
        except ValueError as error:  # no name at all
            result = OSError(str(error))
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(tell, result)

    threading.Thread(target=look, name="lookup", daemon=True).start()
    return found
