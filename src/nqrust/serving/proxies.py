"""Headers of a reverse proxy on this machine: believed only of root, of system users, and of the server's own user.

Anybody who has an account on this machine can connect from loopback, too. With made-up addresses such a user would be any number of
sources, or use up the share of somebody else. A proxy adds the address of its client at the end; what stands before it came from
that client.
"""

from __future__ import annotations

import os
from ipaddress import ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

from nqrust.serving import sources

_FIRST_OF_PEOPLE = 1000
"""login.defs(5), UID_MIN."""
_DYNAMIC = range(61184, 65520)
"""Users of services that systemd makes: systemd.exec(5), DynamicUser=."""


class Proxied:
    """ASGI middleware: takes the client's address from X-Forwarded-For, and the scheme from X-Forwarded-Proto."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and may_speak_for_others(sources.local(scope)):
            told = {name: value.decode("latin-1").strip() for name, value in scope["headers"]}  # the last one of a name
            if address := last_address(told.get(b"x-forwarded-for", "")):
                scope["client"] = (address, 0)
            if (scheme := told.get(b"x-forwarded-proto")) in ("http", "https"):
                scope["scheme"] = scheme.replace("http", "ws") if scope["type"] == "websocket" else scheme
        await self._app(scope, receive, send)


def may_speak_for_others(source: str) -> bool:
    """Return whether connections of this source can be those of a reverse proxy on this machine."""
    user = sources.user(source)
    return user is not None and (user < _FIRST_OF_PEOPLE or user in _DYNAMIC or user == os.geteuid())


def last_address(forwarded: str) -> str:
    """Return the address at the end of X-Forwarded-For, without a port. Empty if there is none."""
    told = forwarded.rpartition(",")[2].strip()
    if told.startswith("["):
        told = told[1:].partition("]")[0]
    elif told.count(":") == 1:
        told = told.partition(":")[0]
    try:
        return str(ip_address(told))
    except ValueError:
        return ""
