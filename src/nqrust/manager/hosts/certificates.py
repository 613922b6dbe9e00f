"""Certificates of agents, and the first contact with the authority."""

from __future__ import annotations

from sqlalchemy import select

from nqrust.contract.credentials import hash_token
from nqrust.contract.hosts import CertificateRenewal, HostCertificate, HostRegister
from nqrust.manager.access import rights
from nqrust.manager.clock import now
from nqrust.manager.core.core import Core
from nqrust.manager.core.principal import Principal
from nqrust.manager.core.trust import Trust
from nqrust.manager.errors import NotAuthenticated, NotFound
from nqrust.manager.store.tables import Host
from nqrust.tls import pinning
from nqrust.tls.authority import CertificateError, fingerprint, has_signed
from nqrust.tls.pinning import AuthorityFound


async def authority(core: Core, host_id: str, nonce: str) -> AuthorityFound:
    """Return the authority, with a proof for a host that has no certificate yet: only this host and the manager know its key.

    `nonce`: the host's random text, which the proof covers. Raises NotFound without TLS.
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


async def renew(core: Core, host_id: str, wanted: CertificateRenewal, who: Principal, *, shown: bool) -> HostCertificate:
    """Return a new certificate of the same name. `shown`: the connection has proven the current one. Otherwise the request
    proves that the host has the key of the last one.

    Raises NotFound, Invalid, NotAuthenticated.
    """
    async with core.db.transaction() as session:
        host = await session.get(Host, host_id, with_for_update=True)
        if host is None or core.trust is None or not host.identity:
            raise NotFound("This host has no certificate to renew.")
        rights.check_agent(host, who)
        if not shown and not _proves(wanted, host):
            raise NotAuthenticated("This agent's certificate is missing, or replaced by a newer one.")
        signed = _sign(core.trust, wanted.certificate_request, host)
        return HostCertificate(certificate=signed, authority=core.trust.trusted)


def _proves(wanted: CertificateRenewal, host: Host) -> bool:
    """Return whether the request is signed with the key of the last certificate that this host had.

    The authority of that certificate may be gone. So the manager compares the certificate with the one that it remembers, then
    checks the signature with its key.
    """
    try:
        former = pinning.certificates(wanted.former)
        known = len(former) == 1 and fingerprint(former[0]) in {host.certificate, host.seen_certificate} - {""}
        return known and has_signed(former[0], wanted.certificate_request, wanted.signature)
    except (pinning.PinningError, CertificateError):
        return False


def _sign(trust: Trust, request: str, host: Host) -> str:
    """Sign, and remember what the host has from now on."""
    signed = trust.sign(request, host)
    host.certificate, host.certificate_signer, host.certificate_at = pinning.fingerprint(signed), trust.signer, now()
    return signed
