"""Assembles the web UI: routes, pages, styles, and the server."""

from __future__ import annotations

from importlib.resources import files

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from nicegui import core, ui
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nqrust.contract.credentials import ui_key
from nqrust.serving import loglines, plain
from nqrust.serving.connections import Bounds
from nqrust.serving.plain import Plain
from nqrust.serving.protocol import HEADER_BYTES, bounded
from nqrust.serving.proxies import Proxied
from nqrust.serving.server import Server, listen
from nqrust.serving.websocket import MESSAGE_BYTES, BoundedWebSocket
from nqrust.tls.reloading import ReloadingContext
from nqrust.ui import session
from nqrust.ui.pace import Paced, PacedFiles, PacedMessages
from nqrust.ui.pages.missing import missing
from nqrust.ui.settings import SESSION_HOURS, BadSetting, UiSettings
from nqrust.ui.waiting import WaitingPages, bound_names

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


def _secured(header: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """Return the header for an answer over TLS: a browser sends its cookies over TLS only (RFC 6265, 4.1.2.5)."""
    name, value = header
    return (name, value + b"; Secure") if name.lower() == b"set-cookie" and b"; secure" not in value.lower() else header


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

        hsts = plain.hsts(scope)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", []), *_HEADERS]
                message["headers"] = [*map(_secured, headers), *hsts] if hsts else headers
            await send(message)

        health = scope["path"] == "/health" and scope["method"] in ("GET", "HEAD")
        await (self._health if health else self._inner)(scope, receive, with_headers)


def _packed(inner: ASGIApp) -> GZipMiddleware:
    """Return the middleware that packs answers. Starlette's own level takes twice as long for 4 % less."""
    return GZipMiddleware(inner, compresslevel=4)


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
    loglines.bound("nicegui", "engineio.server", "socketio.server")
    session.reach(settings.manager_base, ui_key(settings.storage_secret))
    register()
    _look()
    outer = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    ui.run_with(
        outer,
        title=TITLE,
        favicon=(_resources / "favicon.svg").read_text(encoding="utf-8"),
        dark=None,
        tailwind=False,
        show_welcome_message=False,
        reconnect_timeout=RESUMES_WITHIN,
        gzip_middleware_factory=_packed,
        storage_secret=settings.storage_secret,
        session_middleware_kwargs={"max_age": SESSION_HOURS * 3600, "same_site": "strict"},
    )
    core.app.add_exception_handler(404, missing)  # NiceGUI's own page shows its error and leads nowhere
    # Sessions of long polling belong to no connection, and anybody could open any number of them.
    core.app.config.socket_io_js_transports = ["websocket"]
    core.sio.eio.transports = ["websocket"]
    bound_names()
    core.app.timer(3600.0, session.forget_old)
    served = Proxied(
        Plain(
            Outermost(Paced(PacedFiles(PacedMessages(WaitingPages(outer))))),
            allowed=lambda _: settings.plain_http,
            refuse=plain.send_on,
        )
    )
    config = uvicorn.Config(
        served,
        loop="asyncio",
        log_level="warning",
        server_header=False,
        access_log=False,
        proxy_headers=False,
        http=bounded(Bounds()),
        h11_max_incomplete_event_size=HEADER_BYTES,
        ws=BoundedWebSocket,
        ws_max_size=MESSAGE_BYTES,
        ws_per_message_deflate=False,
    )
    context = ReloadingContext(settings.certificate_file) if settings.certificate_file else lambda: None
    try:
        listeners = listen(settings.address, settings.port)
    except OSError as error:
        raise BadSetting(
            f"The web UI cannot listen on {settings.address}:{settings.port}: {error.strerror}.",
            "Free the port (`ss -ltnp`), or choose another with `nqr install --ui-bind ADDRESS:PORT`.",
        ) from error
    Server(config, listeners, context).run()
