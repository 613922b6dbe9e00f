"""`--tls-cert` and `--tls-key`: read and checked before any change, then given to the manager and the web UI."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_rendered_files import RELEASE, SECRETS

from nqrust.host.secret import Secret
from nqrust.installer import planner
from nqrust.installer.context import Context, ReleaseFiles
from nqrust.installer.engine.errors import UsageError
from nqrust.installer.operations import own_certificate
from nqrust.installer.phases import services
from nqrust.installer.release.interpreter import Interpreter
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.file.file import File
from nqrust.tls import authority
from nqrust.tls.authority import Authority, Pair

CERTIFICATE, KEY = "/root/vms.pem", "/root/vms.key"
MADE = Authority(authority.new_authority("test"))
PAIR = MADE.issue(["vms.example.org"])
SETTINGS = Settings.model_validate({"tls": {"certificate": CERTIFICATE, "key": KEY}})


def host_with(certificate: str | bytes | None, key: str | None) -> FakeHost:
    host = FakeHost.debian12()
    for path, content in ((CERTIFICATE, certificate), (KEY, key)):
        if content is not None:
            host.put(path, content)
    return host


def ended() -> Pair:
    return MADE.issue(["vms.example.org"], days=1, now=datetime.now(timezone.utc) - timedelta(days=2))


def test_pair_is_read() -> None:
    read = own_certificate.read(host_with(PAIR.certificate, PAIR.key), SETTINGS, None)
    assert read is not None and (read[0], read[1].reveal()) == (PAIR.certificate, PAIR.key)
    assert own_certificate.read(host_with(None, None), Settings(), None) is None


@pytest.mark.parametrize(
    ("certificate", "key", "what"),
    [
        (None, PAIR.key, f"The certificate {CERTIFICATE} or its key cannot be read"),
        (PAIR.certificate, None, f"The certificate {CERTIFICATE} or its key cannot be read"),
        (b"\xff\x00", PAIR.key, f"{CERTIFICATE} or {KEY} is not a valid PEM file"),
        ("no PEM", PAIR.key, f"{CERTIFICATE} or {KEY} is not a valid PEM file"),
        (PAIR.certificate, "no PEM", f"{CERTIFICATE} or {KEY} is not a valid PEM file"),
        (PAIR.certificate, MADE.issue(["other"]).key, f"{KEY} is not the key of {CERTIFICATE}."),
        (ended().certificate, ended().key, f"{KEY} is not the key of {CERTIFICATE}."),
    ],
)
def test_unusable_pair_is_refused(certificate: str | bytes | None, key: str | None, what: str) -> None:
    with pytest.raises(UsageError) as refused:
        own_certificate.read(host_with(certificate, key), SETTINGS, None)
    assert refused.value.code == "NQR-CFG-014" and refused.value.what.startswith(what)


def test_ended_certificate_is_refused() -> None:
    pair = ended()
    with pytest.raises(UsageError, match="ended on"):
        own_certificate.read(host_with(pair.certificate, pair.key), SETTINGS, None)


@pytest.mark.parametrize("given", [{"certificate": CERTIFICATE}, {"key": KEY}])
def test_certificate_and_key_need_each_other(given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="need each other"):
        Settings.model_validate({"tls": given})


def context(own: tuple[str, Secret] | None) -> Context:
    return Context(
        settings=SETTINGS,
        facts=fit(),
        secrets=SECRETS,
        files=ReleaseFiles(RELEASE, "/var/cache/nqrust-microvm/releases/1.2.3"),
        python=Interpreter("/usr/bin/python3.11", "3.11.2", "/usr/bin/python3.11"),
        own_tls=own,
    )


def written(made: Context) -> dict[str, File]:
    return {step.path: step for phase in planner.plan(made).phases for step in phase.steps if isinstance(step, File)}


def test_own_certificate_goes_to_manager_and_web_ui() -> None:
    made = context((PAIR.certificate, Secret(PAIR.key)))
    files, layout = written(made), made.layout
    assert files[layout.own_certificate].content == PAIR.certificate
    for path, group in ((layout.own_key, "nqrust"), (layout.own_ui, "nqrust-ui")):
        step = files[path]
        assert isinstance(step.content, Secret) and PAIR.key.strip() in step.content.reveal()
        assert (step.mode, step.owner, step.group, step.secret) == (0o640, "root", group, True)
    env = files[layout.manager_env].content
    assert isinstance(env, Secret)
    assert f"MANAGER_TLS_CERT_FILE={layout.own_certificate}\n" in env.reveal()
    assert f"MANAGER_TLS_KEY_FILE={layout.own_key}\n" in env.reveal()
    assert "MANAGER_UI_CERT_FILE" not in env.reveal(), "the manager makes none for the web UI"
    ui = files[layout.ui_env].content
    assert f"UI_CERT_FILE={layout.own_ui}\n" in (ui.reveal() if isinstance(ui, Secret) else ui)


def test_renewed_certificate_restarts_the_manager_alone() -> None:
    """The web UI reads a new file by itself (nqrust.tls.reloading)."""
    before, after = context((PAIR.certificate, Secret(PAIR.key))), context((MADE.issue(["vms"]).certificate, Secret(PAIR.key)))
    keys = [{unit.spec.name: unit.restart_key(made) for unit in services.our_units(made)} for made in (before, after)]
    assert {name for name, key in keys[0].items() if keys[1][name] != key} == {services.MANAGER}
