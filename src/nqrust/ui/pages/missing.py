"""The page of an address that has none. It is plain HTML without a connection, because anybody can ask for it."""

from __future__ import annotations

from fastapi import Request, Response
from fastapi.responses import HTMLResponse

from nqrust.ui.frame import NAME

_PAGE = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Page not found · {NAME}</title>
<style>:root {{ color-scheme: light dark; }} body {{ font-family: system-ui, sans-serif; margin: 20vh auto 0; max-width: 28rem;
padding: 0 1rem; }}</style></head>
<body><main><h1>Page not found</h1><p>{NAME} has no page at this address.</p><p><a href="/">Go to the overview</a></p></main></body>
</html>
"""


async def missing(request: Request, error: Exception) -> Response:
    return HTMLResponse(_PAGE, 404)
