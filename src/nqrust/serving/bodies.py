"""Reads the body of a request as a whole, within a size and a time, before the application sees the request."""

from __future__ import annotations

import asyncio

from starlette.types import Message, Receive

SECONDS = 30.0
"""For a whole body, however much of it arrives."""


class BodyTooLarge(Exception):
    pass


class BodyTooSlow(Exception):
    pass


class ClientGone(Exception):
    pass


async def read(receive: Receive, limit: int, seconds: float = SECONDS) -> bytes:
    """Return the body. `limit` in bytes. Raises BodyTooLarge, BodyTooSlow, ClientGone."""
    try:
        return await asyncio.wait_for(_read(receive, limit), seconds)
    except (asyncio.TimeoutError, TimeoutError) as error:
        raise BodyTooSlow from error


async def _read(receive: Receive, limit: int) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > limit:
            raise BodyTooLarge
        if not message.get("more_body", False):
            return bytes(body)


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body first. Afterwards it waits for the disconnect, as usual."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
