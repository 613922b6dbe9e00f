"""Months after an install, `--tls-cert` has ended, or its key is no longer where it was. The copies of the install count."""

from __future__ import annotations

import pytest
from tests.fakes.host import FakeHost
from tests.fakes.journal import MemoryJournalStore
from tests.unit.installer.operations.test_own_certificate import CERTIFICATE, KEY, MADE, PAIR, SETTINGS, ended
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_rendered_files import RELEASE

from nqrust.contract import paths
from nqrust.installer.engine.errors import UsageError
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.originals import Originals
from nqrust.installer.operations import own_certificate, site
from nqrust.installer.release.sources import Opened
from nqrust.installer.request import Request
from nqrust.installer.settings.model import Settings

COPY, COPY_OF_KEY = SETTINGS.layout.own_certificate, SETTINGS.layout.own_key
OTHER = MADE.issue(["other"])
ENDED = ended()


def host_with(**files: str) -> FakeHost:
    host = FakeHost.debian12()
    places = {"certificate": CERTIFICATE, "key": KEY, "copy": COPY, "copy_of_key": COPY_OF_KEY}
    for name, text in files.items():
        host.put(places[name], text)
    return host


def pair(found: tuple[str, site.Secret] | None) -> tuple[str, str] | None:
    return (found[0], found[1].reveal()) if found else None


@pytest.mark.parametrize("left", [{}, {"certificate": PAIR.certificate}, {"key": PAIR.key}])
def test_the_copy_of_an_install_serves_when_a_file_is_gone(left: dict[str, str]) -> None:
    host = host_with(copy=PAIR.certificate, copy_of_key=PAIR.key, **left)
    assert pair(own_certificate.read(host, SETTINGS, SETTINGS)) == (PAIR.certificate, PAIR.key)
    for installed in (None, Settings.model_validate({"tls": {"certificate": "/root/b.pem", "key": "/root/b.key"}})):
        with pytest.raises(UsageError, match=f"The certificate {CERTIFICATE} or its key cannot be read"):
            own_certificate.read(host, SETTINGS, installed)


def test_a_new_certificate_without_its_key_is_refused() -> None:
    host = host_with(certificate=OTHER.certificate, copy=PAIR.certificate, copy_of_key=PAIR.key)
    with pytest.raises(UsageError, match=f"{COPY_OF_KEY} is not the key of {CERTIFICATE}."):
        own_certificate.read(host, SETTINGS, SETTINGS)


def test_a_copy_that_has_ended_is_refused() -> None:
    with pytest.raises(UsageError, match=f"{COPY} ended on") as refused:
        own_certificate.read(host_with(copy=ENDED.certificate, copy_of_key=ENDED.key), SETTINGS, SETTINGS)
    assert "--tls-cert" in refused.value.cure


@pytest.mark.parametrize(
    ("files", "taken"),
    [
        ({"certificate": ENDED.certificate, "key": ENDED.key}, (ENDED.certificate, ENDED.key)),
        ({"copy": ENDED.certificate, "copy_of_key": ENDED.key}, (ENDED.certificate, ENDED.key)),
        ({"copy": PAIR.certificate, "copy_of_key": PAIR.key, "certificate": OTHER.certificate}, (PAIR.certificate, PAIR.key)),
        ({"copy": PAIR.certificate, "copy_of_key": PAIR.key, "certificate": "x", "key": "x"}, (PAIR.certificate, PAIR.key)),
        ({"copy": PAIR.certificate}, (PAIR.certificate, "")),
        ({}, ("", "")),
    ],
)
def test_verbs_that_install_nothing_are_never_refused(
    files: dict[str, str], taken: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "open_source", lambda *_: Opened(RELEASE, "/cache/releases/1.2.3"))
    monkeypatch.setattr(site, "_build_roles", lambda *_: ())
    host = host_with(**files)
    here = site.Site(host, Journal(MemoryJournalStore(), host.now), Originals(host, paths.ORIGINALS_DIR))
    made = site.make_context(here, Request(SETTINGS), fit(), NullReporter(), looking=True)
    assert pair(made.own_tls) == taken
    assert own_certificate.read_installed(host, Settings()) is None


def test_earlier_settings_come_back_with_their_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "open_source", lambda *_: Opened(RELEASE, "/cache/releases/1.2.3"))
    monkeypatch.setattr(site, "_build_roles", lambda *_: ())
    host = host_with(certificate=ENDED.certificate, key=ENDED.key)
    here = site.Site(host, Journal(MemoryJournalStore(), host.now), Originals(host, paths.ORIGINALS_DIR))
    assert site.make_context(here, Request(SETTINGS), fit(), NullReporter(), going_back=True).own_tls is not None
    with pytest.raises(UsageError, match="ended on"):
        site.make_context(here, Request(SETTINGS), fit(), NullReporter())


def test_a_certificate_that_has_ended_is_a_problem() -> None:
    (told,) = own_certificate.ended(host_with(copy=ENDED.certificate, certificate=PAIR.certificate), SETTINGS)
    assert "ended on 20" in told and f"Renew {CERTIFICATE}, then run `nqr install`" in told
    for copy in (PAIR.certificate, "no PEM"):
        assert own_certificate.ended(host_with(copy=copy), SETTINGS) == ()
    assert own_certificate.ended(host_with(), SETTINGS) == () == own_certificate.ended(host_with(), Settings())
