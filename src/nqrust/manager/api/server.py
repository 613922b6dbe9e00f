"""uvicorn's settings for the manager: what it serves, and its bounds on clients."""

from __future__ import annotations

import uvicorn
from starlette.types import ASGIApp

from nqrust.serving.connections import Bounds
from nqrust.serving.protocol import HEADER_BYTES, bounded
from nqrust.serving.websocket import MESSAGE_BYTES, BoundedWebSocket


def config(app: ASGIApp, host: str, port: int, bounds: Bounds | None = None, lifespan: str = "on") -> uvicorn.Config:
    """Return the settings of a server. `bounds`: on connections and slow clients."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        lifespan=lifespan,  # type: ignore[arg-type]
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        http=bounded(bounds or Bounds()),
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_keep_alive=5,
        ws=BoundedWebSocket,
        ws_max_size=MESSAGE_BYTES,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=5,
    )
