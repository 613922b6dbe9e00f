"""Who is signed in. The API token stays on this server (NiceGUI's per-user storage); the browser holds a signed cookie
with a random id and nothing else.

A browser gives that cookie to everything under the same name or address, whatever the port, so also to a guest behind a
forwarded port, and takes one from there. So a session is good for the browser that signed in only, and signing in starts
with an id that nobody had before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from uuid import uuid4

import httpx
from nicegui import app, ui

from nqrust.client.manager import AsyncManagerClient
from nqrust.contract.auth import Role, Session

_KEY = "session"
_RANK = {Role.viewer: 0, Role.operator: 1, Role.admin: 2}


@dataclass(frozen=True)
class SignedIn:
    token: str
    username: str
    role: Role

    def may(self, role: Role) -> bool:
        """Whether this user has the rights of `role`."""
        return _RANK[self.role] >= _RANK[role]


@dataclass
class _Manager:
    base: str = ""
    transport: httpx.AsyncHTTPTransport | None = None


_manager = _Manager()


def reach(manager_base: str) -> None:
    """Which manager to talk to. Its connections are shared by all sessions."""
    _manager.base = manager_base
    _manager.transport = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=50, max_keepalive_connections=10))


def manager_base() -> str:
    return _manager.base


def connect(token: str | None = None) -> AsyncManagerClient:
    """A client that speaks for `token`. Cheap, and needs no closing: the connections are not its own."""
    return AsyncManagerClient(_manager.base, token=token, timeout=15.0, transport=_manager.transport)


def current() -> SignedIn | None:
    """The session of the page that is being built or used; None when there is none or it has run out."""
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
    """Where the page was asked from (a reverse proxy on this machine tells for whom it asks), and what it said it is."""
    request = ui.context.client.request
    return [request.client.host if request.client else "", request.headers.get("user-agent", "")]


async def renew() -> None:
    """A fresh id for whoever asks for this page, before the answer leaves; the choice of light or dark is taken along."""
    chosen, fresh = dark(), str(uuid4())
    await app.storage._create_user_storage(fresh)
    app.storage.browser["id"] = fresh
    if chosen is not None:
        choose_dark(chosen)


def forget() -> None:
    app.storage.user.pop(_KEY, None)


def dark() -> bool | None:
    """The user's choice; None follows the system."""
    chosen = app.storage.user.get("dark")
    return chosen if isinstance(chosen, bool) else None


def choose_dark(value: bool | None) -> None:
    app.storage.user["dark"] = value
