"""The certificate authority, read by OpenSSL through Python's ssl and by cryptography."""

from __future__ import annotations

import hashlib
import ssl
from datetime import datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from nqrust.tls import authority, contexts
from nqrust.tls.authority import Authority, CertificateError, Pair


@pytest.fixture(scope="module")
def pair() -> Pair:
    return authority.new_authority("NQRust-MicroVM of h1")


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Do a handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    left = list(ends)
    for _ in range(10):
        for end in tuple(left):
            try:
                end.do_handshake()
                left.remove(end)
            except ssl.SSLWantReadError:
                pass
    # With TLS 1.3 a client learns of a refused certificate when it first reads.
    for end in ends:
        try:
            end.read(1)
        except ssl.SSLWantReadError:
            pass
    assert not left
    return ends


def test_both_ends_accept_certificates_of_one_authority(pair: Pair) -> None:
    issued = Authority(pair)
    manager = issued.issue([contexts.MANAGER_NAME, "192.0.2.5"])
    key = authority.new_key()
    agent = issued.sign(authority.new_request(key), [contexts.agent_name("h-1")])
    server = contexts.server(manager.certificate, manager.key, pair.certificate, required=True)
    client = contexts.client(pair.certificate, agent, key)
    there, here = handshake(server, client, contexts.MANAGER_NAME)
    assert contexts.names(here.getpeercert()) == ("h-1.agent.nqrust.internal",)
    assert contexts.names(there.getpeercert()) == ("manager.nqrust.internal",)
    assert there.version() == "TLSv1.3"
    handshake(server, client, "192.0.2.5")


@pytest.mark.parametrize("name", ["h-1.agent.nqrust.internal", "192.0.2.6"])
def test_name_that_is_not_in_the_certificate_is_refused(pair: Pair, name: str) -> None:
    manager = Authority(pair).issue([contexts.MANAGER_NAME, "192.0.2.5"])
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(contexts.server(manager.certificate, manager.key), contexts.client(pair.certificate), name)


def test_certificate_of_another_authority_is_refused_by_both_ends(pair: Pair) -> None:
    other = authority.new_authority("NQRust-MicroVM of h1")
    fake = Authority(other).issue([contexts.MANAGER_NAME])
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(contexts.server(fake.certificate, fake.key), contexts.client(pair.certificate), contexts.MANAGER_NAME)
    true = Authority(pair).issue([contexts.MANAGER_NAME])
    server = contexts.server(true.certificate, true.key, pair.certificate, required=True)
    with pytest.raises(ssl.SSLError):
        handshake(server, contexts.client(pair.certificate, fake.certificate, fake.key), contexts.MANAGER_NAME)


def test_client_without_a_certificate_is_refused_where_one_is_required(pair: Pair) -> None:
    true = Authority(pair).issue([contexts.MANAGER_NAME])
    client = contexts.client(pair.certificate)
    with pytest.raises(ssl.SSLError):
        handshake(contexts.server(true.certificate, true.key, pair.certificate, required=True), client, contexts.MANAGER_NAME)
    _, here = handshake(contexts.server(true.certificate, true.key, pair.certificate), client, contexts.MANAGER_NAME)
    assert contexts.names(here.getpeercert()) == ()


def test_expired_certificate_is_refused(pair: Pair) -> None:
    old = Authority(pair).issue([contexts.MANAGER_NAME], now=datetime.now(timezone.utc) - timedelta(days=91))
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        handshake(contexts.server(old.certificate, old.key), contexts.client(pair.certificate), contexts.MANAGER_NAME)


def test_certificates_of_a_machine_whose_clock_has_the_local_time_are_valid_at_once() -> None:
    """Its hardware clock is up to 14 hours ahead until it synchronizes."""
    ahead = datetime.now(timezone.utc) + timedelta(hours=14)
    made = authority.new_authority("NQRust-MicroVM of h1", now=ahead)
    issued = Authority(made).issue([contexts.MANAGER_NAME], now=ahead)
    assert authority.begins_at(issued.certificate) == ahead.replace(microsecond=0) - timedelta(days=1)
    handshake(contexts.server(issued.certificate, issued.key), contexts.client(made.certificate), contexts.MANAGER_NAME)


def test_authority_that_has_ended_signs_nothing(pair: Pair) -> None:
    late = datetime.now(timezone.utc) + timedelta(days=authority.AUTHORITY_DAYS + 1)
    with pytest.raises(CertificateError, match="ended at"):
        Authority(pair).issue([contexts.MANAGER_NAME], now=late)
    with pytest.raises(CertificateError, match="ended at"):
        Authority(pair).sign(authority.new_request(authority.new_key()), ["a"], now=late)


def test_leaf_signs_no_certificates(pair: Pair) -> None:
    leaf = Authority(pair).issue([contexts.MANAGER_NAME])
    forged = Authority(leaf).issue(["h-2.agent.nqrust.internal"])
    chain = forged.certificate + leaf.certificate
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(contexts.server(chain, forged.key), contexts.client(pair.certificate), "h-2.agent.nqrust.internal")


def test_leaf_never_outlives_its_authority(pair: Pair) -> None:
    late = datetime.now(timezone.utc) + timedelta(days=authority.AUTHORITY_DAYS - 10)
    leaf = Authority(pair).issue([contexts.MANAGER_NAME], now=late)
    assert authority.expires_at(leaf.certificate) == authority.expires_at(pair.certificate)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_protocol_versions_are_refused(pair: Pair, version: ssl.TLSVersion) -> None:
    true = Authority(pair).issue([contexts.MANAGER_NAME])
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.set_ciphers("ALL:@SECLEVEL=0")
    client.minimum_version = client.maximum_version = version
    with pytest.raises(ssl.SSLError):
        handshake(contexts.server(true.certificate, true.key), client, "x")


def test_cipher_suites_have_forward_secrecy_and_authenticated_encryption(pair: Pair) -> None:
    true = Authority(pair).issue([contexts.MANAGER_NAME])
    for suite in contexts.server(true.certificate, true.key).get_ciphers():
        assert suite["aead"] and (suite["protocol"] == "TLSv1.3" or suite["name"].startswith("ECDHE-")), suite


def rsa_request() -> str:
    key = rsa.generate_private_key(65537, 2048)
    built = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return built.public_bytes(Encoding.PEM).decode()


def request_with_another_signature() -> str:
    made = x509.load_pem_x509_csr(authority.new_request(authority.new_key()).encode())
    der = bytearray(made.public_bytes(Encoding.DER))
    der[der.find(made.signature) + 12] ^= 0xFF
    return ssl.DER_cert_to_PEM_cert(bytes(der)).replace("CERTIFICATE", "CERTIFICATE REQUEST")


@pytest.mark.parametrize(
    "request_text", ["", "x", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"]
)
def test_unreadable_request_is_refused(pair: Pair, request_text: str) -> None:
    with pytest.raises(CertificateError, match="cannot be read"):
        Authority(pair).sign(request_text, ["a"])


@pytest.mark.parametrize("make", [rsa_request, request_with_another_signature])
def test_request_of_another_kind_is_refused(pair: Pair, make: object) -> None:
    assert callable(make)
    with pytest.raises(CertificateError, match="P-256"):
        Authority(pair).sign(make(), ["a"])


def test_names_in_a_request_do_not_count(pair: Pair) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    wanted = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, contexts.MANAGER_NAME)]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(contexts.MANAGER_NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    signed = Authority(pair).sign(wanted.public_bytes(Encoding.PEM).decode(), ["h-1.agent.nqrust.internal"])
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    assert contexts.MANAGER_NAME.encode() not in x509.load_pem_x509_certificate(signed.encode()).public_bytes(Encoding.DER)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(contexts.server(signed, private), contexts.client(pair.certificate), contexts.MANAGER_NAME)


def test_key_of_another_certificate_is_refused(pair: Pair) -> None:
    with pytest.raises(CertificateError, match="does not belong"):
        Authority(Pair(pair.certificate, authority.new_key()))
    assert authority.belongs(pair.certificate, pair.key)
    assert not authority.belongs(pair.certificate, authority.new_key())


def test_fingerprint_is_of_the_certificate_in_der_form(pair: Pair) -> None:
    der = ssl.PEM_cert_to_DER_cert(pair.certificate)
    assert authority.fingerprint(pair.certificate) == hashlib.sha256(der).hexdigest()
