"""TCP and HTTP from this machine, for health checks: without proxies or redirects."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from nqrust import loopback
from nqrust.host.errors import HostError, NotTrusted
from nqrust.host.secret import Secret
from nqrust.tls import pem

_BODY = 1 << 20  # bytes


def accepts(address: str, port: int, timeout: float) -> bool:
    """Return whether `address` (an IP address or a name) accepts a TCP connection within `timeout` seconds."""
    try:
        with socket.create_connection((address, port), timeout):
            return True
    except (OSError, OverflowError, UnicodeError):
        return False


class _Named(http.client.HTTPSConnection):
    """Over TLS with a server that has another name than its address."""

    def __init__(self, host: str, port: int | None, timeout: float, context: ssl.SSLContext, name: str) -> None:
        super().__init__(host, port, timeout=timeout, context=context)
        self._tls, self._name = context, name

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._name)


def _context(url: str, tls: tuple[str, str] | None) -> ssl.SSLContext:
    """Return what `ask` trusts. Raises HostError: without a certificate, OpenSSL would trust the system's authorities."""
    if tls is None:
        return ssl.create_default_context()
    if not any(tls):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context
    try:
        certificates = b"".join(pem.blocks(tls[0]))
        if certificates:
            return ssl.create_default_context(cadata=certificates)
    except (pem.PemError, ssl.SSLError) as error:
        raise HostError(f"the authority that {url} has to prove cannot be read") from error
    raise HostError(f"the authority that {url} has to prove has no certificate")


def ask(
    method: str, url: str, headers: Mapping[str, str | Secret], timeout: float, tls: tuple[str, str] | None = None
) -> tuple[int, bytes]:
    """Return status and the first MiB of the body. `tls`: authority (PEM) and name that an https server proves; two empty
    ones accept every server. Raises NotTrusted if it proves another one, HostError if no answer arrives."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise HostError(f"{url} is not a URL: {error}") from error
    if parts.scheme not in ("http", "https") or not host:
        raise HostError(f"{url} is not an http or https URL")
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = _Named(host, port, timeout, _context(url, tls), (tls[1] if tls else "") or host)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    sent = {name: value.reveal() if isinstance(value, Secret) else value for name, value in headers.items()}
    secret = parts.scheme == "http" and any(isinstance(value, Secret) for value in headers.values())
    try:
        if secret and loopback.is_local(host):
            loopback.check(host, connection.port)
            connection.connect()
            loopback.check(str(connection.sock.getpeername()[0]), connection.port, connected=True)
        connection.request(method, target, headers={"Connection": "close", **sent})
        answer = connection.getresponse()
        return answer.status, answer.read(_BODY)
    except (OSError, http.client.HTTPException, ValueError) as error:
        where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        kind = NotTrusted if isinstance(error, ssl.SSLCertVerificationError) else HostError
        raise kind(f"no answer from {where}: {str(error) or type(error).__name__}") from error
    finally:
        connection.close()
