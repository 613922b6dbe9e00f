"""One reader of PEM: what a fingerprint or a proof covers is all that OpenSSL trusts afterwards."""

from __future__ import annotations

import gzip
import http.server
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path

import pytest

from nqrust.agent.link.channel import Channel
from nqrust.agent.link.credentials import Credentials, CredentialStore, Identity
from nqrust.host.errors import HostError
from nqrust.host.local import LocalHost
from nqrust.host.port import Tls
from nqrust.tls import authority, contexts, pem, pinning
from nqrust.tls.pinning import PinningError

BEGIN, END = "-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n"


def padded(name: str) -> str:
    """Return the certificate of an authority whose base64 ends with padding: readers differ on what follows it."""
    while "=" not in (made := authority.new_authority(name).certificate):
        pass
    return made


REAL, EVIL = padded("real"), authority.new_authority("evil").certificate


def body(certificate: str) -> str:
    return certificate.removeprefix(BEGIN).removesuffix(END)


def labelled(label: str) -> str:
    return EVIL.replace("CERTIFICATE", label)


FORMS = {
    "another label after": REAL + labelled("X509 CERTIFICATE"),
    "another label before": labelled("X509 CERTIFICATE") + REAL,
    "trusted": REAL + labelled("TRUSTED CERTIFICATE"),
    "in a block": BEGIN + body(REAL) + labelled("X509 CERTIFICATE") + END,
    "after padding": BEGIN + body(REAL) + body(EVIL) + END,
    "padding first": BEGIN + "====\n" + body(EVIL) + END,
    "header": BEGIN + ":" + body(REAL).replace("\n", "") + "\n\n" + body(EVIL) + END,
    "header with a dash": BEGIN + "-:" + body(REAL) + "\n" + body(EVIL) + END,
    "begins twice": BEGIN + "-----BEGIN X509 CERTIFICATE-----\n" + body(REAL) + END,
    "text around": f"# of the installation\n{REAL}end\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_trusted_that_the_fingerprint_does_not_cover(form: str) -> None:
    try:
        covered = pinning.fingerprint(FORMS[form])
    except PinningError:
        with pytest.raises(ssl.SSLError):
            contexts.client(FORMS[form])
        return
    trusted = contexts.client(FORMS[form]).get_ca_certs(binary_form=True)

    assert sha256(b"".join(trusted)).hexdigest() == covered == pinning.fingerprint(REAL)
    assert pinning.named(FORMS[form], covered) == REAL


@pytest.mark.parametrize("form", FORMS)
def test_a_certificate_is_the_one_of_its_fingerprint(form: str) -> None:
    try:
        assert authority.fingerprint(FORMS[form]) == pinning.fingerprint(REAL)
    except authority.CertificateError:
        with pytest.raises(PinningError):
            pinning.fingerprint(FORMS[form])


def test_a_bundle_keeps_all_its_certificates() -> None:
    assert pinning.certificates(REAL + EVIL) == (REAL, EVIL)
    assert len(contexts.client(REAL + EVIL).get_ca_certs()) == 2
    assert pem.encode(pem.blocks(f"{REAL}\r\n{EVIL}")) == REAL + EVIL


@pytest.fixture
def show() -> Iterator[Callable[[str, str], str]]:
    """Serve a text as the authority, with the proof that the real manager gives for REAL. Return the address. `coding`: of the
    body."""
    text = proven = coding = ""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = json.dumps({"certificate": text, "proof": proven}).encode()
            answer = gzip.compress(answer) if coding else answer
            self.send_response(200)
            if coding:
                self.send_header("content-encoding", coding)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    leaf = authority.Authority(authority.new_authority("attacker")).issue([contexts.MANAGER_NAME])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = contexts.server(leaf.certificate, leaf.key).wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def use(certificate: str, proof: str = "", coded: str = "") -> str:
        nonlocal text, proven, coding
        text, proven, coding = certificate, proof, coded
        return f"https://127.0.0.1:{server.server_port}"

    yield use
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("form", FORMS)
async def test_a_relayed_proof_proves_no_other_authority(form: str, show: Callable[[str, str], str]) -> None:
    """An attacker between agent and manager passes the proof on, and adds its own authority to the text."""
    base = show(FORMS[form], pinning.proof("key", "nonce", REAL))
    try:
        found = await pinning.fetch(base, host_id="h1", nonce="nonce", key="key")
    except PinningError:
        return
    assert found == REAL


async def test_a_program_that_has_proven_nothing_fills_no_memory(
    show: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer is short and not compressed, and comes in time."""
    proof = pinning.proof("key", "nonce", REAL)
    assert await pinning.fetch(show(REAL, proof), host_id="h1", nonce="nonce", key="key") == REAL
    for base in (show(REAL, proof, "gzip"), show(REAL + " " * 100_000, proof)):
        with pytest.raises(PinningError, match="did not show"):
            await pinning.fetch(base, host_id="h1", nonce="nonce", key="key")
    monkeypatch.setattr(pinning, "_WHOLE", 0.0)
    with pytest.raises(PinningError, match="did not show"):
        await pinning.fetch(show(REAL, proof), host_id="h1", nonce="nonce", key="key")


def test_an_authority_in_another_form_is_not_outdated(tmp_path: Path) -> None:
    host = LocalHost()
    store = CredentialStore(host, str(tmp_path / "credentials"))
    soon = datetime.now(timezone.utc) + timedelta(days=60)
    identity = Identity(certificate=REAL, key="", authority=REAL.replace("\n", "\r\n"), ends=soon)
    store.current = Credentials(host_id="h1", manager="", agent_token="", command_token_sha256="", identity=identity)
    channel = Channel("https://192.0.2.1:1", store)

    channel._pinned = REAL
    assert not channel.is_outdated()
    channel._pinned = REAL + EVIL
    assert channel.is_outdated()


@pytest.mark.parametrize(
    "text", ["", "\n", BEGIN + "AAAA", labelled("X509 CERTIFICATE")], ids=["empty", "blank", "half", "other label"]
)
def test_an_authority_without_a_certificate_trusts_nobody(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the authorities of the system nor every server."""
    made: list[object] = []
    monkeypatch.setattr(ssl, "create_default_context", lambda **given: made.append(given))
    with pytest.raises(HostError, match="has no certificate"):
        LocalHost().http_get("https://127.0.0.1:1/", timeout=1.0, tls=Tls(text, "manager.nqrust.internal"))
    assert not made
