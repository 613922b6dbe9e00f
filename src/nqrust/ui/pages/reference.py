"""The API reference for signed-in users. This server requests it from the manager with the user's own session."""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import Request
from fastapi.responses import RedirectResponse
from nicegui import ui

from nqrust.client import calls
from nqrust.client.manager import ClientError
from nqrust.ui import parts, reference, session
from nqrust.ui.frame import entrance, frame, head


@ui.page("/api-reference")
async def api_reference(request: Request) -> RedirectResponse | None:
    me = entrance(request)
    if isinstance(me, RedirectResponse):
        return me
    manager = session.connect(me.token)
    try:
        api = await manager.send(calls.openapi())
    except ClientError as error:
        api, failure = {}, parts.explain(error)
    else:
        failure = ""
    with frame(me, "/api-reference", "API reference"):
        head("API reference")
        if failure:
            parts.notice(failure, "bad", icon="error")
            return None
        port = urlsplit(session.manager_base()).port
        parts.text(
            f"Programs use the manager on port {port} and send an API token: Authorization: Bearer TOKEN. "
            "Errors are problem+json (RFC 9457).",
            "muted",
            tag="p",
        )
        with parts.box("card"):
            ui.html(reference.render(api), sanitize=False).classes("reference full")
    return None
