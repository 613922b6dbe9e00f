"""TLS contexts (ssl.SSLContext) from PEM text: TLS 1.2 or newer, forward secrecy and authenticated encryption only."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from nqrust.tls import pem

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2 (RFC 9325, 4.2); TLS 1.3 has no weak ones."""

MANAGER_NAME = "manager.nqrust.internal"
"""The name in the manager's certificate. Agents check it, whatever address the manager has."""


def agent_name(host_id: str) -> str:
    """Return the name in the certificate of a host's agent."""
    return f"{host_id}.agent.nqrust.internal"


def server(certificate: str, key: str, clients: str | None = None, *, required: bool = False) -> ssl.SSLContext:
    """Return a server's context. `clients`: authority (PEM) for certificates of clients, which are `required` or optional."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    present(context, certificate, key)
    if clients is not None:
        context.load_verify_locations(cadata=_certificates(clients))
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return context


def client(authority: str, certificate: str | None = None, key: str | None = None) -> ssl.SSLContext:
    """Return a client's context that trusts `authority` (PEM) alone and checks the server's name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    context.load_verify_locations(cadata=_certificates(authority))
    if certificate is not None and key is not None:
        present(context, certificate, key)
    return context


def unchecked() -> ssl.SSLContext:
    """Return a client's context that trusts every server. Only for fetching what is compared with a known fingerprint."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def present(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Make `context` present this certificate on new connections. Raises ssl.SSLError if the two do not belong together."""
    with _file(certificate) as certificate_file, _file(key) as key_file:
        context.load_cert_chain(certificate_file, key_file)


def _certificates(text: str) -> bytes:
    """Return what `pinning.fingerprint` covers, and no other block that OpenSSL would take. Raises ssl.SSLError."""
    try:
        found = b"".join(pem.blocks(text))
    except pem.PemError as error:
        raise ssl.SSLError(str(error)) from error
    if not found:
        raise ssl.SSLError("the text holds no certificate")
    return found


def names(peer: object) -> tuple[str, ...]:
    """Return the DNS names of a verified certificate, from `SSLObject.getpeercert()`."""
    found = peer.get("subjectAltName", ()) if isinstance(peer, dict) else ()
    return tuple(value for kind, value in found if kind == "DNS")


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE


@contextmanager
def _file(text: str) -> Iterator[str]:
    """Yield a path from which OpenSSL reads `text`. It exists in memory only: memfd_create(2)."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        data = text.encode()
        while data:
            data = data[os.write(descriptor, data) :]
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
