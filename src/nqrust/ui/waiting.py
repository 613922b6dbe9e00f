"""Bounds on what anybody can make the server keep without signing in: pages, each of 100 KiB and more, and half a message.

NiceGUI keeps a page for a minute until its browser connects, and for as long as it is connected. A WebSocket that names no page
could connect any number of pages at once, so that one client keeps all of them. A message of Socket.IO may announce any number of
binary parts, which the server keeps until the last one is there. NiceGUI's pages send none. A browser makes up names of its tab
and of its document, and the server keeps them after the connection has ended.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any
from urllib.parse import parse_qs

from nicegui import Client, app, core, nicegui
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nqrust.serving.sources import of_client

MOST = 300
"""Pages without a connection. For one more, the oldest page goes of the sources that have the most."""


LONGEST_NAME = 64
"""Characters. A UUID has 36."""
MOST_DOCUMENTS = 8
"""Documents of one page whose connection has ended. A browser has one."""
_TAB_SECONDS = 60.0
_MAKING = "page is being made"
"""In a request's `scope["state"]`: its page is not complete. A deletion would end its making with an error."""
_NAMES = ("client_id", "tab_id", "old_tab_id", "document_id")


class WaitingPages:
    """Middleware."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and not names_a_page(scope):
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "it names no page"})
            return

        async def checked() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive" and not is_whole(message):
                return {"type": "websocket.disconnect", "code": 1003}
            return message

        if scope["type"] != "http":
            await self._inner(scope, checked if scope["type"] == "websocket" else receive, send)
            return
        state = scope.setdefault("state", {})
        state[_MAKING] = True
        try:
            await self._inner(scope, receive, send)
        finally:
            state[_MAKING] = False
            make_room()


def bound_names() -> None:
    """Let NiceGUI keep few and short names that browsers make up, and the storage of a tab, which no page uses, for a minute."""
    connects = nicegui._on_handshake

    async def handshake(sid: str, data: dict[str, Any]) -> bool:
        return is_modest(data) and await connects(sid, data)

    nicegui._on_handshake = handshake  # for a WebSocket that connects its page in its address
    core.sio.on("handshake", handshake)
    app.storage.max_tab_storage_age = _TAB_SECONDS


def is_modest(data: object) -> bool:
    named: dict[str, Any] = {name: data.get(name) for name in _NAMES} if isinstance(data, dict) else {"": 0}
    if not all(value is None or (isinstance(value, str) and len(value) <= LONGEST_NAME) for value in named.values()):
        return False
    page = Client.instances.get(str(named["client_id"]))
    left = page._delete_tasks if page else {}
    return named.get("document_id") in left or len(left) < MOST_DOCUMENTS


def is_whole(message: Message) -> bool:
    """Return whether this is text that no binary parts follow: Engine.IO's message (4) of Socket.IO's types 5 and 6 announces
    them, and its packet `b` is one."""
    said = message.get("text")
    return said is not None and not said.startswith(("45", "46", "b"))


def names_a_page(scope: Scope) -> bool:
    """Return whether this WebSocket names a page, as NiceGUI reads it. NiceGUI then connects no other page to it."""
    try:
        query = bytes(scope.get("query_string", b"")).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return bool(parse_qs(query).get("client_id", [""])[0])


def make_room() -> None:
    """Delete the oldest pages without a connection, of the sources that have the most of them."""
    made = (page for page in Client.instances.values() if not page.request.scope.get("state", {}).get(_MAKING))
    waiting = [page for page in made if not page.has_socket_connection]
    if len(waiting) <= MOST:
        return
    by_source: defaultdict[str, list[Client]] = defaultdict(list)
    for page in sorted(waiting, key=lambda one: one.created, reverse=True):
        by_source[of_client(page.request.scope)].append(page)
    for _ in range(len(waiting) - MOST):
        # Of sources with as many, the oldest page: the newest one may still be on its way to its browser.
        _delete(max(filter(None, by_source.values()), key=lambda pages: (len(pages), -pages[-1].created)).pop())


def _delete(page: Client) -> None:
    """Delete a page now, also one whose browser may come back."""
    for task in page._delete_tasks.values():
        task.cancel()
    page.delete()
