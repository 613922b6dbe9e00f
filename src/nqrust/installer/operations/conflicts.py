"""Hosts with two machines, as the manager of this machine tells: `nqr status` and `nqr doctor` report them."""

from __future__ import annotations

import json

from nqrust.host.errors import HostError
from nqrust.host.port import Host
from nqrust.host.secret import Secret

_TIMEOUT = 5.0


def told(host: Host, manager: str, token_file: str) -> tuple[str, ...]:
    """Return a text for each host of which two machines report. `manager`: its URL. Nothing if it does not answer."""
    try:
        headers = {"Authorization": Secret(f"Bearer {host.read_text(token_file).strip()}")}
        status, body = host.http_get(f"{manager}/v1/hosts", headers=headers, timeout=_TIMEOUT)
        found = json.loads(body)["items"] if status == 200 else []
        return tuple(str(one["conflict"]) for one in found if one.get("conflict"))
    except (HostError, ValueError, KeyError, TypeError, AttributeError):
        return ()
