"""The signed-in user. The API token stays on this server (NiceGUI's per-user storage).

The browser holds only a signed cookie with a random id. It sends the cookie to every port of the same name or address,
including a guest behind a forwarded port, and accepts one from there. A session is therefore valid only for the browser that
signed in, and signing in starts with a new id.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from uuid import uuid4
from weakref import WeakValueDictionary

import httpx
from nicegui import app, ui

from nqrust.client.manager import AsyncManagerClient
from nqrust.contract.auth import Role, Session
from nqrust.contract.names import CLIENT_HEADER, UI_KEY_HEADER
from nqrust.serving.sources import of_client

_KEY = "session"
KEPT = 86400.0
"""Seconds after its last change that the file of a session is kept. A session is valid for half of that."""
CONNECTIONS, OF_A_SESSION, OF_SIGN_INS = 50, 8, 24
"""Connections to the manager, and requests under way of one session, and of all sign-ins."""
_RANK = {Role.viewer: 0, Role.operator: 1, Role.admin: 2}


@dataclass(frozen=True)
class SignedIn:
    token: str
    username: str
    role: Role

    def may(self, role: Role) -> bool:
        """Return whether this user has the rights of `role`."""
        return _RANK[self.role] >= _RANK[role]


class Shared(httpx.AsyncHTTPTransport):
    """The connections to the manager. Each session has a few requests under way at a time: many open pages of one user keep nobody
    else waiting."""

    def __init__(self) -> None:
        super().__init__(limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=10))
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        sender = request.headers.get("Authorization", "")
        async with self._turns.setdefault(sender, asyncio.Semaphore(OF_A_SESSION if sender else OF_SIGN_INS)):
            return await super().handle_async_request(request)


@dataclass
class _Manager:
    base: str = ""
    key: str = ""
    transport: Shared | None = None


_manager = _Manager()
_turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()


def reach(manager_base: str, key: str) -> None:
    """Set the manager's address, and the key that proves this UI to it. All sessions share its connections."""
    _manager.base, _manager.key = manager_base, key
    _manager.transport = Shared()


def manager_base() -> str:
    return _manager.base


def connect(token: str | None = None) -> AsyncManagerClient:
    """Return a client for `token`. It is cheap and needs no closing: the connections are shared.

    It tells the manager the address of this page's browser, for the audit log and for limits on sign-ins.
    """
    headers = passed_on(_browser()[0], _manager.key)
    return AsyncManagerClient(_manager.base, token=token, timeout=15.0, transport=_manager.transport, headers=headers)


def turn() -> asyncio.Lock:
    """Return the lock of the browser's source, for the time in which the manager checks a password.

    The manager checks one at a time of a source. More of them would keep all connections to it from everybody else.
    """
    return _turns.setdefault(of_client(ui.context.client.request.scope), asyncio.Lock())


def passed_on(address: str, key: str) -> dict[str, str]:
    """Return the headers that name a browser's address to the manager; none without an address."""
    printable = address.isascii() and address.isprintable()
    return {UI_KEY_HEADER: key, CLIENT_HEADER: address} if address and printable else {}


def current() -> SignedIn | None:
    """Return the session of the current page, or None if there is none or it has expired."""
    kept = app.storage.user.get(_KEY)
    if not isinstance(kept, dict) or kept.get("browser") != _browser():
        return None
    try:
        expires = datetime.fromisoformat(kept["expires_at"])
        found = SignedIn(kept["token"], kept["username"], Role(kept["role"]))
    except (TypeError, KeyError, ValueError):
        return None
    return found if expires > datetime.now(timezone.utc) else None


def keep(session: Session) -> None:
    expires = session.expires_at if session.expires_at.tzinfo else session.expires_at.replace(tzinfo=timezone.utc)
    app.storage.user[_KEY] = {
        "token": session.token,
        "username": session.username,
        "role": session.role.value,
        "expires_at": expires.isoformat(),
        "browser": _browser(),
    }


def _browser() -> list[str]:
    """Return the browser's address (from a reverse proxy on this machine, its client's) and its user agent."""
    request = ui.context.client.request
    return [request.client.host if request.client else "", request.headers.get("user-agent", "")]


async def renew() -> None:
    """Assign a new id before the answer leaves, and keep the choice of light or dark."""
    chosen, fresh = dark(), str(uuid4())
    await app.storage._create_user_storage(fresh)
    app.storage.browser["id"] = fresh
    if chosen is not None:
        choose_dark(chosen)


def forget() -> None:
    app.storage.user.pop(_KEY, None)


def forget_old(folder: Path | None = None) -> None:
    """Delete the files of sessions whose time is over. NiceGUI keeps one of each sign-in until somebody signs out."""
    for file in (folder or Path(app.storage.path)).glob("storage-user-*.json*"):
        with suppress(OSError):
            if time.time() - file.stat().st_mtime > KEPT:
                file.unlink()


def dark() -> bool | None:
    """The user's choice; None follows the system."""
    chosen = app.storage.user.get("dark")
    return chosen if isinstance(chosen, bool) else None


def choose_dark(value: bool | None) -> None:
    app.storage.user["dark"] = value
