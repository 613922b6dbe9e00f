"""The certificate authority of one installation: makes its own certificate, and signs those of its manager and agents.

Certificates follow RFC 5280. Keys are ECDSA on P-256, which every TLS 1.2 and 1.3 library knows (RFC 8446, 9.1).
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nqrust.tls import pem

AUTHORITY_DAYS = 3650
LEAF_DAYS = 90
_SKEW = timedelta(days=1)
"""Certificates begin this long before they are made: clocks of hosts differ. A machine whose hardware clock has the local time is
up to 14 hours ahead until it synchronizes its clock."""
_LONGEST_COMMON_NAME = 64  # RFC 5280, appendix A.1: ub-common-name


class CertificateError(Exception):
    """A key, certificate or request that cannot be used. Its text says why."""


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, both PEM (RFC 7468)."""

    certificate: str
    key: str


def new_key() -> str:
    """Return a new private key, as PEM (PKCS #8)."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def new_authority(name: str, now: datetime | None = None) -> Pair:
    """Return a new authority called `name`. It signs leaves only (path length 0)."""
    start = _now(now)
    key = _private(new_key())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:_LONGEST_COMMON_NAME])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - _SKEW)
        .not_valid_after(start + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return Pair(certificate.public_bytes(Encoding.PEM).decode(), private)


def new_request(key: str) -> str:
    """Return a certificate signing request (PKCS #10, RFC 2986) for `key`. The authority decides on all names."""
    built = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(_private(key), hashes.SHA256())
    return built.public_bytes(Encoding.PEM).decode()


class Authority:
    """Signs with the key of `pair`. Raises CertificateError if the two do not belong together."""

    def __init__(self, pair: Pair) -> None:
        self.certificate = pair.certificate
        self._certificate, self._key = _certificate(pair.certificate), _private(pair.key)
        if self._certificate.public_key() != self._key.public_key():
            raise CertificateError("the authority's key does not belong to its certificate")

    def sign(self, request: str, names: Sequence[str], days: int = LEAF_DAYS, now: datetime | None = None) -> str:
        """Return a certificate for the key of `request` and for `names` (DNS names or IP addresses), valid for `days`.

        Only the key of the request counts. It is good for both ends of a connection (RFC 5280, 4.2.1.12). Raises
        CertificateError for a request that is unreadable or not signed by its own key, or has a weak key, and if the authority
        has ended.
        """
        try:
            wanted = x509.load_pem_x509_csr(request.encode())
            valid = wanted.is_signature_valid
            key = wanted.public_key()
        except (ValueError, TypeError) as error:
            raise CertificateError("the certificate request cannot be read") from error
        if not valid or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise CertificateError("the certificate request is not signed with a key on P-256")
        return self._leaf(key, names, days, now)

    def issue(self, names: Sequence[str], days: int = LEAF_DAYS, now: datetime | None = None) -> Pair:
        """Return a new key with a certificate for `names`. Raises CertificateError if the authority has ended."""
        key = new_key()
        return Pair(self._leaf(_private(key).public_key(), names, days, now), key)

    def _leaf(self, key: ec.EllipticCurvePublicKey, names: Sequence[str], days: int, now: datetime | None) -> str:
        start = _now(now)
        end = min(start + timedelta(days=days), self._certificate.not_valid_after_utc)
        if end <= start:
            raise CertificateError(f"the authority ended at {end.isoformat()}, or the clock is wrong")
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:_LONGEST_COMMON_NAME])])
        authority_key = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start - _SKEW)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
            )
            .add_extension(x509.SubjectAlternativeName([_general(name) for name in dict.fromkeys(names)]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority_key), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(Encoding.PEM).decode()


def begins_at(certificate: str) -> datetime:
    """Return when a PEM certificate begins to be valid (UTC). Raises CertificateError."""
    return _certificate(certificate).not_valid_before_utc


def expires_at(certificate: str) -> datetime:
    """Return when a PEM certificate ends (UTC). Raises CertificateError."""
    return _certificate(certificate).not_valid_after_utc


def fingerprint(certificate: str) -> str:
    """Return the SHA-256 of a PEM certificate's DER form, in hexadecimal, as `openssl x509 -fingerprint -sha256` does."""
    return hashlib.sha256(_certificate(certificate).public_bytes(Encoding.DER)).hexdigest()


def belongs(certificate: str, key: str) -> bool:
    """Return whether `key` is the key of `certificate` (its first one, if it is a chain). Raises CertificateError."""
    return _certificate(certificate).public_key() == load_pem_private_key(key.encode(), None).public_key()


def sign_text(key: str, text: str) -> str:
    """Return the signature of `text` (ECDSA with SHA-256, DER, base64). Raises CertificateError."""
    return base64.b64encode(_private(key).sign(text.encode(), ec.ECDSA(hashes.SHA256()))).decode()


def has_signed(certificate: str, text: str, signature: str) -> bool:
    """Return whether the key of `certificate` made this signature of `text`. Raises CertificateError."""
    key = _certificate(certificate).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    try:
        key.verify(base64.b64decode(signature, validate=True), text.encode(), ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


def _now(now: datetime | None) -> datetime:
    return (now or datetime.now(timezone.utc)).replace(microsecond=0)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _certificate(text: str) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(pem.blocks(text)[0])
    except (IndexError, ValueError) as error:
        raise CertificateError("the certificate cannot be read") from error


def _private(text: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError) as error:
        raise CertificateError("the private key cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError("the private key is not an elliptic curve key")
    return key


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
