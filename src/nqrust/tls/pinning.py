"""The first contact with a manager: its authority is fetched over an unchecked connection and compared with what is known.

A join token says the authority's fingerprint, so that a fake manager is noticed before anything secret is sent to it.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from nqrust.tls import contexts, pem

if TYPE_CHECKING:
    import httpx

PATH = "/v1/authority"
SEPARATOR = "."
"""Between the secret of a join token and the fingerprint."""
_WHOLE = 20.0
"""Seconds for the whole answer of a program that has proven nothing."""
_LONGEST = 64 * 1024


class PinningError(Exception):
    """The manager has another authority than the expected one, or none. Its text says which."""


class AuthorityFound(BaseModel):
    """GET /v1/authority. `certificate`: PEM, several during a rotation. `proof`: see `proof`; only if the request named a host."""

    certificate: str
    proof: str = ""


def join(secret: str, certificate: str) -> str:
    """Return the join token for people: the secret with the fingerprint of the authority."""
    return f"{secret}{SEPARATOR}{fingerprint(certificate)}"


def split(token: str) -> tuple[str, str]:
    """Return secret and fingerprint of a join token. The fingerprint is empty in a token without one."""
    secret, _, found = token.strip().partition(SEPARATOR)
    return secret, found.lower()


def certificates(bundle: str) -> tuple[str, ...]:
    """Return the certificates in a text, each as PEM of its own, in their order. Raises PinningError."""
    return tuple(pem.encode([one]) for one in _blocks(bundle))


def fingerprint(bundle: str) -> str:
    """Return the SHA-256 of a PEM certificate's DER form, in hexadecimal; of several, in their order. Raises PinningError."""
    found = b"".join(_blocks(bundle))
    if not found:
        raise PinningError("the manager's authority cannot be read")
    return sha256(found).hexdigest()


def _blocks(bundle: str) -> tuple[bytes, ...]:
    try:
        return pem.blocks(bundle)
    except pem.PemError as error:
        raise PinningError("the manager's authority cannot be read") from error


def named(bundle: str, fingerprint_of_one: str) -> str | None:
    """Return the certificate of a bundle that has this fingerprint. The others are worth nothing to one who knows only it."""
    for one in certificates(bundle):
        if hmac.compare_digest(fingerprint(one), fingerprint_of_one):
            return one
    return None


def proof(key: str, nonce: str, certificate: str) -> str:
    """Return what proves an authority to one who shares `key` with the manager: HMAC-SHA256 (RFC 2104)."""
    return hmac.new(key.encode(), f"{nonce}\n{fingerprint(certificate)}".encode(), sha256).hexdigest()


def secured(base: str) -> str:
    """Return the https address of a manager whose address may be given as http."""
    return f"https://{base.removeprefix('http://')}" if base.startswith("http://") else base


async def _short(client: httpx.AsyncClient, url: str, asked: dict[str, str]) -> bytes | None:
    """Return a short answer of a program that has proven nothing yet; None if it is another answer, too long or compressed."""
    content = bytearray()
    async with client.stream("GET", url, params=asked, headers={"Accept-Encoding": "identity"}) as answer:
        if answer.status_code != 200 or answer.headers.get("content-encoding", "identity") != "identity":
            return None
        async for piece in answer.aiter_raw():
            content += piece
            if len(content) > _LONGEST:
                return None
    return bytes(content)


async def fetch(base: str, *, expected: str = "", host_id: str = "", nonce: str = "", key: str = "") -> str:
    """Return the manager's authority (PEM), which has the fingerprint `expected`, or all that it proves with `key`. The answer
    holds the compared certificates and nothing else that the manager sent.

    Raises PinningError if it is another one; httpx.HTTPError if nobody answers over TLS.
    """
    import asyncio

    import httpx

    from nqrust.tls.pieces import Coarse

    asked = {"host": host_id, "nonce": nonce} if key else {}
    timeout = httpx.Timeout(10.0, connect=3.0)
    transport = Coarse(httpx.AsyncHTTPTransport(verify=contexts.unchecked(), trust_env=False))
    async with httpx.AsyncClient(transport=transport, timeout=timeout, trust_env=False) as client:
        try:
            content = await asyncio.wait_for(_short(client, secured(base) + PATH, asked), _WHOLE)
        except asyncio.TimeoutError:
            content = None
    if content is None:
        raise PinningError(f"the manager at {base} did not show its authority")
    try:
        found = AuthorityFound.model_validate_json(content)
    except ValidationError as error:
        raise PinningError(f"the program at {base} does not answer as a manager with TLS") from error
    if expected and (one := named(found.certificate, expected)) is not None:
        return one
    if key and hmac.compare_digest(proof(key, nonce, found.certificate), found.proof):
        return "".join(certificates(found.certificate))
    raise PinningError(f"the manager at {base} has another authority than the expected one")
