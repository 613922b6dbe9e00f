"""Verb for a resource of a service on this host, deleted by its HTTP API."""

from __future__ import annotations

import json
from typing import Any

from nqrust.host.errors import HostError
from nqrust.host.secret import Secret
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.engine.verb import Kept, Outcome, Reverted, UndoContext


def undo_resource(url: str, token_file: str) -> Undo:
    """Delete a resource of a service on this host by its HTTP API, with the token in a file."""
    return Undo("resource", {"url": url, "token_file": token_file})


def resource(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """DELETE it. If the service does not run, or its token is gone, uninstall removes the service with its records."""
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
