"""Assembles the web UI: routes, pages, styles, and the server."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

from fastapi.responses import JSONResponse
from nicegui import app, ui
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nqrust.contract.credentials import ui_key
from nqrust.ui import session
from nqrust.ui.settings import SESSION_HOURS, UiSettings

TITLE = "NQRust-MicroVM"
RESUMES_WITHIN = 50.0
"""Seconds that a page survives without its connection. Later, the browser loads it again and open forms are lost. NiceGUI pings
after 0.8 of it, which must be less than the minute after which proxies close quiet connections."""
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
)
_resources = files("nqrust.ui") / "resources"


class Outermost:
    """Outermost middleware. Answers `GET /health` (no authentication, and no session for each probe).

    The manager reports its own health. Adds headers that keep browsers from guessing types, framing pages and leaking addresses.
    """

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner
        self._health = JSONResponse({"status": "ok"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        health = scope["path"] == "/health" and scope["method"] in ("GET", "HEAD")
        await (self._health if health else self._inner)(scope, receive, with_headers)


def _wrap() -> None:
    """Added middleware runs inside the session's, which NiceGUI adds last. This therefore wraps the built stack."""
    build: Callable[[], ASGIApp] = app.build_middleware_stack
    app.__dict__["build_middleware_stack"] = lambda: Outermost(build())


def _look() -> None:
    """Defaults of all elements, and the style sheet."""
    ui.button.default_props("no-caps unelevated")
    for element in (ui.input, ui.number, ui.select, ui.textarea):
        element.default_props("outlined dense hide-bottom-space")
    ui.tooltip.default_props("delay=400")
    css = (_resources / "ui.css").read_text(encoding="utf-8")
    ui.add_css(css, shared=True)


def register() -> None:
    """Import every page, which registers its route."""
    from nqrust.ui.pages import (  # noqa: F401
        access,
        audit,
        dashboard,
        events,
        hosts,
        images,
        reference,
        sign_in,
        templates,
        vm_detail,
        vms,
        volumes,
    )


def serve(settings: UiSettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    session.reach(settings.manager_base, ui_key(settings.storage_secret))
    register()
    _look()
    _wrap()
    ui.run(
        host=settings.address,
        port=settings.port,
        title=TITLE,
        favicon=(_resources / "favicon.svg").read_text(encoding="utf-8"),
        dark=None,
        tailwind=False,
        reload=False,
        show=False,
        show_welcome_message=False,
        reconnect_timeout=RESUMES_WITHIN,
        storage_secret=settings.storage_secret,
        session_middleware_kwargs={"max_age": SESSION_HOURS * 3600, "same_site": "strict"},
        server_header=False,
        access_log=False,
    )
