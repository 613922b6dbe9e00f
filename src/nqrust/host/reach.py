"""TCP and HTTP from this machine, for health checks: without proxies or redirects."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from nqrust.host.errors import HostError
from nqrust.host.secret import Secret

_BODY = 1 << 20  # bytes


def accepts(address: str, port: int, timeout: float) -> bool:
    """Return whether `address` (an IP address or a name) accepts a TCP connection within `timeout` seconds."""
    try:
        with socket.create_connection((address, port), timeout):
            return True
    except (OSError, OverflowError, UnicodeError):
        return False


def ask(method: str, url: str, headers: Mapping[str, str | Secret], timeout: float) -> tuple[int, bytes]:
    """Return status and the first MiB of the body. Raises HostError if no answer arrives."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise HostError(f"{url} is not a URL: {error}") from error
    if parts.scheme not in ("http", "https") or not host:
        raise HostError(f"{url} is not an http or https URL")
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=ssl.create_default_context())
    else:
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    sent = {name: value.reveal() if isinstance(value, Secret) else value for name, value in headers.items()}
    try:
        connection.request(method, target, headers={"Connection": "close", **sent})
        answer = connection.getresponse()
        return answer.status, answer.read(_BODY)
    except (OSError, http.client.HTTPException, ValueError) as error:
        where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        raise HostError(f"no answer from {where}: {str(error) or type(error).__name__}") from error
    finally:
        connection.close()
