"""`--db-ca`: read and checked before any change, then kept for the manager."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from tests.fakes.host import FakeHost
from tests.fakes.journal import MemoryJournalStore
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_rendered_files import RELEASE, SECRETS

from nqrust.contract import paths
from nqrust.host.secret import Secret
from nqrust.installer import planner
from nqrust.installer.context import Context, ReleaseFiles
from nqrust.installer.engine.errors import UsageError
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.originals import Originals
from nqrust.installer.operations import database_authority, looking, site
from nqrust.installer.phases import services
from nqrust.installer.platform.migrate import Migrate
from nqrust.installer.preflight import reach
from nqrust.installer.release.interpreter import Interpreter
from nqrust.installer.release.sources import Opened
from nqrust.installer.request import Request
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.file.file import File
from nqrust.tls import authority

FILE, COPY = "/root/db-ca.pem", "/etc/nqrust-microvm/database-ca.crt"
MADE, OTHER = authority.new_authority("db"), authority.new_authority("other")
ENDED = authority.new_authority("ended", now=datetime.now(timezone.utc) - timedelta(days=365 * 40))


def settings(**more: Any) -> Settings:
    return Settings.model_validate({"mode": "manager", "database": {"type": "remote", "host": "db1", "ca": FILE} | more})


def host_with(text: str | bytes, path: str = FILE) -> FakeHost:
    host = FakeHost.debian12()
    host.put(path, text)
    return host


def test_certificates_are_read_and_nothing_else_of_the_file() -> None:
    host = host_with(f"# two\n{MADE.certificate}\n{OTHER.certificate}{MADE.key}")
    assert database_authority.read(host, settings(), None) == (MADE.certificate + OTHER.certificate, FILE)


def test_only_a_remote_database_has_one() -> None:
    host = host_with("no PEM")
    agent = Settings.model_validate({"mode": "agent", "database": settings().database})
    for one in (Settings(), settings(ca=None), settings(type="local"), agent):
        assert database_authority.read(host, one, None) is None


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"\xff\x00", f"There is no certificate in {FILE}."),
        ("no PEM", f"There is no certificate in {FILE}."),
        (MADE.key, f"There is no certificate in {FILE}."),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", f"The database's authority {FILE} cannot be read"),
        (ENDED.certificate, f"The database's authority {FILE} ended on"),
    ],
)
def test_unusable_file_is_refused(text: str | bytes, what: str) -> None:
    with pytest.raises(UsageError) as refused:
        database_authority.read(host_with(text), settings(), None)
    assert refused.value.code == "NQR-DB-260" and refused.value.what.startswith(what) and "--db-ca" in refused.value.cure


def test_a_copy_of_the_install_serves_when_its_file_is_gone() -> None:
    host = host_with(MADE.certificate, COPY)
    assert database_authority.read(host, settings(), settings()) == (MADE.certificate, COPY)
    for installed in (None, settings(ca="/root/former.pem")):
        with pytest.raises(UsageError, match=FILE):
            database_authority.read(host, settings(), installed)
    host.put(FILE, OTHER.certificate)
    assert database_authority.read(host, settings(), settings()) == (OTHER.certificate, FILE)


def test_verbs_that_install_nothing_take_what_is_there() -> None:
    for text, at, kept in (
        (ENDED.certificate, FILE, ENDED.certificate),
        ("no PEM", FILE, ""),
        (MADE.certificate, COPY, MADE.certificate),
    ):
        assert database_authority.read_installed(host_with(text, at), settings()) == (
            kept,
            FILE if kept == ENDED.certificate else COPY,
        )
    assert database_authority.read_installed(FakeHost.debian12(), Settings()) is None
    assert database_authority.read(host_with(ENDED.certificate), settings(), None, any_date=True) == (ENDED.certificate, FILE)


def context(ca: str | None) -> Context:
    return Context(
        settings=settings(),
        facts=fit(),
        secrets=SECRETS,
        files=ReleaseFiles(RELEASE, "/var/cache/nqrust-microvm/releases/1.2.3"),
        python=Interpreter("/usr/bin/python3.11", "3.11.2", "/usr/bin/python3.11"),
        database_ca=(ca, FILE) if ca else None,
    )


def test_manager_and_migration_use_the_copy_and_nqr_the_file() -> None:
    steps = [step for phase in planner.plan(context(MADE.certificate)).phases for step in phase.steps]
    copy = next(step for step in steps if isinstance(step, File) and step.path == COPY)
    assert (copy.content, copy.mode, copy.owner) == (MADE.certificate, 0o644, "root"), "the manager's user reads it"
    migrate = next(step for step in steps if isinstance(step, Migrate))
    assert steps.index(copy) < steps.index(migrate)
    url = migrate.env["DATABASE_URL"]
    assert isinstance(url, Secret) and url.reveal().endswith(f"?sslmode=verify-full&sslrootcert={COPY}")
    asked = migrate.login.environment()  # of the plan too, before there is a copy
    assert (asked["PGSSLMODE"], asked["PGSSLROOTCERT"]) == ("verify-full", FILE)


def test_a_new_authority_in_the_same_file_restarts_nothing() -> None:
    """libpq reads the file for each new connection."""
    none, one, other = (
        {unit.spec.name: unit.restart_key(context(ca)) for unit in services.our_units(context(ca))}
        for ca in (None, MADE.certificate, OTHER.certificate)
    )
    assert one == other and none[services.MANAGER] != one[services.MANAGER]


@pytest.mark.parametrize("ca", [FILE, None])
def test_preflight_gets_the_file_of_the_authority(monkeypatch: pytest.MonkeyPatch, ca: str | None) -> None:
    asked: list[str] = []
    monkeypatch.setattr(reach, "remote_database", lambda s, p, a, token, ca: asked.append(ca) or ())
    monkeypatch.setattr(site, "open_source", lambda *_: Opened(RELEASE, "/cache/releases/1.2.3"))
    monkeypatch.setattr(site, "_build_roles", lambda *_: ())
    host = host_with(MADE.certificate)
    here = site.Site(host, Journal(MemoryJournalStore(), host.now), Originals(host, paths.ORIGINALS_DIR))
    looking.look(here, Request(settings(ca=ca)), fit(), NullReporter())
    assert asked == [ca or ""]
