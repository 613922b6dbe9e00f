"""Certificates of agents, and the first contact with the authority."""

from __future__ import annotations

from sqlalchemy import select

from nqrust.contract.credentials import hash_token
from nqrust.contract.hosts import HostCertificate, HostRegister
from nqrust.manager.clock import now
from nqrust.manager.core.core import Core
from nqrust.manager.core.trust import Trust
from nqrust.manager.errors import NotFound
from nqrust.manager.store.tables import Host
from nqrust.tls import pinning
from nqrust.tls.pinning import AuthorityFound


async def authority(core: Core, host_id: str, nonce: str) -> AuthorityFound:
    """Return the authority. To a host of before it is proven with what only the host and the manager know.

    Raises NotFound without TLS.
    """
    if core.trust is None:
        raise NotFound("This manager has no certificate authority.", cure="It runs with --tls off; use http.")
    certificate = core.trust.trusted
    proof = ""
    if host_id and nonce:
        async with core.db.transaction() as session:
            token = await session.scalar(select(Host.command_token).where(Host.id == host_id))
        proof = pinning.proof(hash_token(token), nonce, certificate) if token else ""
    return AuthorityFound(certificate=certificate, proof=proof)


def answer(core: Core, host: Host, wanted: HostRegister, *, joins: bool) -> dict[str, str]:
    """Return the part of the answer to a registration that asks for a certificate. A join makes the host's former certificates
    worthless. Raises Invalid."""
    if core.trust is None or not wanted.certificate_request:
        return {}
    if joins or not host.identity:
        host.identity = (host.identity or 0) + 1
    return {"certificate": _sign(core.trust, wanted.certificate_request, host), "authority": core.trust.trusted}


async def renew(core: Core, host_id: str, request: str) -> HostCertificate:
    """Return a new certificate of the same name. Raises NotFound, Invalid."""
    async with core.db.transaction() as session:
        host = await session.get(Host, host_id)
        if host is None or core.trust is None or not host.identity:
            raise NotFound("This host has no certificate to renew.")
        return HostCertificate(certificate=_sign(core.trust, request, host), authority=core.trust.trusted)


def _sign(trust: Trust, request: str, host: Host) -> str:
    """Sign, and remember what the host has from now on."""
    signed = trust.sign(request, host)
    host.certificate, host.certificate_signer, host.certificate_at = pinning.fingerprint(signed), trust.signer, now()
    return signed
