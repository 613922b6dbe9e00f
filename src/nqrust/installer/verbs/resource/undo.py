"""Verb for a resource of a service on this host, deleted by its HTTP API."""

from __future__ import annotations

import json
from typing import Any

from nqrust.host.errors import HostError
from nqrust.host.secret import Secret
from nqrust.installer.engine.verb import Kept, Outcome, Reverted, UndoContext


def resource(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """DELETE it. A service that does not run (or whose token is gone) is going itself, and its records with it."""
    host, url = context.host, str(args["url"])
    try:
        token = host.read_text(str(args["token_file"])).strip()
        status, body = host.http_send("DELETE", url, headers={"Authorization": Secret(f"Bearer {token}")}, timeout=30.0)
    except HostError:
        return Reverted("its service does not run")
    if status in (404, 410) or 200 <= status < 300:
        return Reverted()
    try:
        detail = str(json.loads(body).get("detail", "")).rstrip(".")
    except (ValueError, AttributeError):
        detail = ""
    return Kept(f"{url} was not deleted: {detail or f'HTTP {status}'}", url)
