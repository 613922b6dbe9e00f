"""Requests over real sockets whose last byte waits, so that they are known to the manager and not yet answered."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any


class Pending:
    """`authorization`: the header. `body` None: a request without a body, which is complete at once."""

    def __init__(self, port: int, authorization: str, *, address: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self._place, self._authorization, self._tls = (address, port), authorization, tls
        self._rest = b""

    async def begin(self, method: str, path: str, body: Any = None, *, whole: bool = False) -> Pending:
        """Send all but the last byte. `whole`: send that one, too."""
        content = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: manager\r\nAuthorization: {self._authorization}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        ).encode()
        self._reader, self._writer = await asyncio.open_connection(
            *self._place, ssl=self._tls, server_hostname="manager" if self._tls else None
        )
        sent = len(content) if whole else max(0, len(content) - 1)
        self._rest = content[sent:]
        self._writer.write(head + content[:sent])
        await self._writer.drain()
        return self

    async def finish(self) -> tuple[int, Any]:
        """Send the rest; the status and the body of the answer."""
        self._writer.write(self._rest)
        answer = await asyncio.wait_for(self._reader.read(), 60)
        self._writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body) if body else None
