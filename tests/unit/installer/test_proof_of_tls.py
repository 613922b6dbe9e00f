"""The proof that the manager answers TLS with a certificate of this installation."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_rendered_files import RELEASE, SECRETS

from nqrust.host.errors import HostError, NotTrusted
from nqrust.installer.context import Context, ReleaseFiles
from nqrust.installer.engine.events import Proof
from nqrust.installer.proofs.hops import run_hop
from nqrust.installer.proofs.standing import standing
from nqrust.installer.release.interpreter import Interpreter
from nqrust.installer.settings.model import Settings
from nqrust.tls import authority, pinning

CA = authority.new_authority("test").certificate


class Answering(FakeHost):
    """The manager at 127.0.0.1:18080: a status, or what goes wrong. `asked`: the URL and what it must prove."""

    answer: int | HostError = 200
    asked: tuple[str, Any] | None = None

    def http_get(self, url: str, **more: Any) -> tuple[int, bytes]:
        self.asked = (url, more.get("tls"))
        if isinstance(self.answer, HostError):
            raise self.answer
        return self.answer, b"{}"


def proof(answer: int | HostError, form: str = "bundled") -> tuple[Proof, Answering]:
    host = Answering.debian12()
    assert isinstance(host, Answering)
    host.answer = answer
    context = Context(
        settings=Settings(),
        facts=fit(),
        secrets=SECRETS,
        files=ReleaseFiles(RELEASE.model_copy(update={"form": form}), "/var/cache/nqrust-microvm/releases/1.2.3"),
        python=Interpreter("/usr/bin/python3.11", "3.11.2", "/usr/bin/python3.11"),
    )
    host.put(context.layout.ca_file, CA)
    (hop,) = [hop for hop in standing(context, host) if hop.name == "tls"]
    return run_hop(hop, host), host


def test_manager_proves_the_authority() -> None:
    found, host = proof(200)
    assert found.verdict == "passed" and pinning.fingerprint(CA)[:16] in found.detail
    assert host.asked is not None
    url, tls = host.asked
    assert (url, tls.authority, tls.name) == ("https://127.0.0.1:18080/health", CA, "manager.nqrust.internal")


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (NotTrusted("…"), "the manager shows a certificate of another authority"),
        (HostError("no answer from https://127.0.0.1:18080/health"), "no answer from https://127.0.0.1:18080/health"),
        (503, "HTTP 503 from /health over TLS"),
    ],
)
def test_other_answers_fail(answer: int | HostError, detail: str) -> None:
    found, _ = proof(answer)
    assert (found.verdict, found.code, found.detail) == ("failed", "NQR-VER-013", detail)


def test_release_without_tls_is_unproven() -> None:
    found, host = proof(200, "upstream")
    assert found.verdict == "unproven" and host.asked is None
