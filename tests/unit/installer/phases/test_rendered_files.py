"""Golden files of everything that an installation writes, so that review shows each change on a host.

NQR_UPDATE_GOLDEN=1 writes them again.
"""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest
from tests import places
from tests.fakes.host import FakeHost
from tests.unit.installer.phases.a_host import fit

from nqrust.contract import credentials, paths
from nqrust.host.secret import Secret
from nqrust.installer import planner, secret_store
from nqrust.installer.context import Context, ReleaseFiles, Secrets
from nqrust.installer.platform.sudoers import Sudoers
from nqrust.installer.release.bundled import COMPONENTS, IMAGES
from nqrust.installer.release.descriptor import Release
from nqrust.installer.release.interpreter import Interpreter
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.file.file import File
from nqrust.manager.settings import from_environment

GOLDEN = places.GOLDEN / "files"
SECRETS = Secrets(
    db_password=Secret("D" * 32),
    admin_password=Secret("A" * 32),
    admin_password_salt="00" * 16,
    cli_token=Secret("nqr_" + "c" * 43),
    join_token=Secret("nqr_" + "j" * 43),
    ui_storage_secret=Secret("u" * 43),
    authority="-----BEGIN CERTIFICATE-----\nb2YgdGhlIGF1dGhvcml0eQ==\n-----END CERTIFICATE-----\n",
    authority_key=Secret("-----BEGIN PRIVATE KEY-----\nof the authority\n-----END PRIVATE KEY-----\n"),
)
RELEASE = Release(form="bundled", version="1.2.3", components=COMPONENTS, images=IMAGES)
CASES: dict[str, dict[str, Any]] = {
    "production": {},
    "isolated-minimal": {"mode": "minimal", "network": {"mode": "isolated", "bridge_name": "br-vm"}},
    "manager-remote-database": {
        "mode": "manager",
        "database": {"type": "remote", "host": "db.example", "port": 6432, "name": "vms", "user": "nq"},
    },
    "manager-proven-database": {
        "mode": "manager",
        "database": {"type": "remote", "host": "db.example", "ca": "/root/db-ca.pem"},
    },
    "agent": {"mode": "agent", "agent": {"manager_base": "http://m1:18080", "name": "kvm7", "advertise_address": "192.0.2.10"}},
    "without-systemd": {},
}


def rendered(case: str) -> dict[str, str]:
    """Return path on the host (with mode and owner) -> content."""
    facts = fit(supervisor="none" if case == "without-systemd" else "systemd")
    context = Context(
        settings=Settings.model_validate(CASES[case]),
        facts=facts,
        secrets=SECRETS,
        database_ca=(SECRETS.authority, "/root/db-ca.pem") if case == "manager-proven-database" else None,
        files=ReleaseFiles(RELEASE, "/var/cache/nqrust-microvm/releases/1.2.3"),
        python=Interpreter("/usr/bin/python3.11", "3.11.2", "/usr/bin/python3.11"),
    )
    found: dict[str, str] = {}
    for phase in planner.plan(context).phases:
        for step in phase.steps:
            if isinstance(step, File):
                content = step.content.reveal() if isinstance(step.content, Secret) else step.content
                found[step.path] = f"{step.path} {step.mode:04o} {step.owner}:{step.group}\n---\n{content}"
            elif isinstance(step, Sudoers):
                found[step.path] = f"{step.path} 0440 root:root\n---\n{step.content}"
    return found


def golden_name(path: str) -> str:
    return path.strip("/").replace("/", "__")


@pytest.mark.parametrize("case", CASES)
def test_rendered_files_match_the_golden_files(case: str) -> None:
    folder, now = GOLDEN / case, {golden_name(path): text for path, text in rendered(case).items()}
    assert now, "the plan writes files"
    if os.environ.get("NQR_UPDATE_GOLDEN"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, text in now.items():
            (folder / name).write_text(text)
    assert sorted(now) == sorted(path.name for path in folder.iterdir())
    for name, text in now.items():
        assert text == (folder / name).read_text(), name


def test_secrets_are_in_files_that_only_their_readers_see() -> None:
    secrets = ("D" * 32, "A" * 32, "c" * 43, "j" * 43, "u" * 43)
    for path, text in rendered("production").items():
        if any(secret in text for secret in secrets):
            mode = text.split()[1]
            assert mode in ("0600", "0640"), f"{path} is {mode}"


def test_programs_use_relocated_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """The helper finds the folder by files beside it, the agent by its environment."""
    moved = {"mode": "minimal", "paths": {"install_dir": "/opt/vms", "data_dir": "/data/fc", "image_dir": "/data/images"}}
    monkeypatch.setitem(CASES, "moved", moved)
    found = {path: text.partition("---\n")[2] for path, text in rendered("moved").items()}
    assert found["/opt/vms/libexec/data-dir"] == "/data/fc\n"
    assert "\nAGENT_HELPER=/opt/vms/libexec/nqrust-helper\n" in found["/etc/nqrust-microvm/agent.env"]
    manager = dict(line.split("=", 1) for line in found["/etc/nqrust-microvm/manager.env"].splitlines() if "=" in line)
    assert from_environment({**manager, "DATABASE_PASSWORD_FILE": ""}).guest_agent == "/opt/vms/bin/guest-agent"
    assert not any("-dir" in path for path in rendered("production"))


def test_manager_bootstrap_file_holds_only_hashes() -> None:
    text = rendered("production")["/etc/nqrust-microvm/bootstrap.json"].split("---\n", 1)[1]
    assert "admin" in text
    for secret in ("D" * 32, "A" * 32, "c" * 43, "j" * 43, "u" * 43):
        assert secret not in text


def test_services_listen_on_all_addresses_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = {"manager": {"bind": "10.1.2.3:18080"}, "agent": {"bind": "10.1.2.3:19090"}, "ui": {"bind": "127.0.0.1:3000"}}
    monkeypatch.setitem(CASES, "narrow", narrow)
    for service, given in narrow.items():
        name = f"{service.upper()}_BIND"
        for case, bind in (("production", f"0.0.0.0:{given['bind'].rpartition(':')[2]}"), ("narrow", given["bind"])):
            assert f"\n{name}={bind}\n" in rendered(case)[f"/etc/nqrust-microvm/{service}.env"], (case, name)


def test_an_administrators_password_is_hashed_once_for_all_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    host = FakeHost.debian12()
    host.put(paths.SECRETS_JSON, secret_store.render(SECRETS).reveal())
    monkeypatch.setattr(credentials, "hash_password", lambda *_, **__: pytest.fail("hashed again"))
    known = secret_store.load(host)
    assert known is not None and known.admin_password_hash == SECRETS.admin_password_hash
    assert secret_store.render(known).reveal() == secret_store.render(SECRETS).reveal()
