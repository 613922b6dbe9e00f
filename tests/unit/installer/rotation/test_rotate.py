"""`nqr rotate` from the command line down to a host in memory."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from dataclasses import fields

import pytest
from tests.unit.installer.effects.a_bench import Bench, bench
from tests.unit.installer.rotation.rotating import FakeManager

from nqrust.contract import paths
from nqrust.contract.credentials import hash_token
from nqrust.host.secret import Secret
from nqrust.installer.engine.step import Satisfied
from nqrust.installer.operations.inspect import rotating
from nqrust.installer.phases import config
from nqrust.installer.request import Request
from nqrust.installer.settings.model import Settings
from nqrust.installer.settings.sources import gather
from nqrust.tls import pinning

__all__ = ["bench"]


@pytest.fixture
def manager(bench: Bench) -> FakeManager:
    assert bench.nqr("install") == 0
    return FakeManager(bench.host)


def test_certificates_are_replaced_and_a_line_tells_it(bench: Bench, manager: FakeManager) -> None:
    manager.slow = 3
    assert bench.nqr("rotate", "certificates") == 0
    assert manager.begun == ["certificates"]
    assert "The manager, the web UI and the agents have new certificates." in bench.out
    assert "VMs, consoles and connections continued" in bench.out


def test_each_run_replaces_them_again(bench: Bench, manager: FakeManager) -> None:
    assert bench.nqr("rotate", "certificates") == 0 and bench.nqr("rotate", "certificates") == 0
    assert manager.begun == ["certificates"] * 2


def test_offline_hosts_are_named_and_not_waited_for(bench: Bench, manager: FakeManager) -> None:
    manager.offline = ("kvm7",)
    assert bench.nqr("rotate", "certificates") == 0
    assert "not waited for: kvm7" in bench.out


def test_host_that_does_not_follow_is_named_and_the_next_run_continues(bench: Bench, manager: FakeManager) -> None:
    manager.stuck = ("kvm8",)
    assert bench.nqr("rotate", "certificates", "--timeout", "5") == 1
    assert "NQR-SVC-111" in bench.err and "After 5 s" in bench.err and "kvm8" in bench.err
    assert "run the same command again; it continues" in bench.out.lower()
    manager.stuck = ()
    assert bench.nqr("rotate", "certificates") == 0 and "resuming the interrupted run" in bench.out


def test_status_names_the_way_on_after_an_interruption() -> None:
    from nqrust.cli.install.state import status_lines
    from nqrust.installer.request import Status

    lines = status_lines(Status(installed=True, unfinished="rotate"))
    assert "A rotation of secrets was interrupted." in lines and "  next: run it again, or: nqr install" in lines
    for installed in (True, False):
        lines = status_lines(Status(installed=installed, unfinished="uninstall"))
        assert "A run of uninstall was interrupted." in lines and "  next: run it again, or: nqr install" in lines


def test_install_finishes_an_interrupted_rotation(bench: Bench, manager: FakeManager) -> None:
    manager.stuck = ("kvm8",)
    assert bench.nqr("rotate", "certificates", "--timeout", "5") == 1
    assert bench.nqr("install") == 0 and "resuming the interrupted run" in bench.out
    manager.stuck = ()
    assert bench.nqr("rotate", "certificates") == 0 and "resuming" not in bench.out


def test_manager_that_stops_answering_is_told(bench: Bench, manager: FakeManager) -> None:
    bench.host.pages[f"POST {'http://127.0.0.1:18080'}/v1/rotation/certificates"] = (500, "{}")
    assert bench.nqr("rotate", "certificates") == 1
    assert "NQR-SVC-110" in bench.err and "answered 500" in bench.err


def test_dry_run_asks_nobody(bench: Bench, manager: FakeManager) -> None:
    before = bench.store.data
    assert bench.nqr("rotate", "--dry-run") == 0
    assert manager.begun == [] and bench.store.data == before and bench.host.mutations == []
    assert (
        "wait until the hosts trust the new authority too" in bench.out
        and "PostgreSQL role nexus: password differs (secret)" in bench.out
    )


@pytest.mark.parametrize("answer", ["n", "y"])
def test_on_a_terminal_it_asks_first(bench: Bench, manager: FakeManager, answer: str) -> None:
    assert bench.nqr("rotate", "certificates", answer=answer) == 0
    assert "Replace these secrets? [y/N]" in bench.out
    assert bool(manager.begun) is (answer == "y")


def test_result_as_json_lines(bench: Bench, manager: FakeManager) -> None:
    assert bench.nqr("rotate", "certificates", "--output", "json") == 0
    last = json.loads(bench.out.splitlines()[-1])
    assert last["type"] == "summary" and last["outcome"] == "ok" and last["urls"] == {}
    assert "The manager, the web UI and the agents have new certificates." in last["notes"]


# --- the database
def test_database_password_is_new_in_every_place(bench: Bench, manager: FakeManager) -> None:
    before = manager.stored.db_password.reveal()
    assert bench.nqr("rotate", "database") == 0
    password = manager.stored.db_password.reveal()
    assert password != before and re.fullmatch(r"[A-Za-z0-9]{32}", password)
    assert manager.read("database-password") == password and manager.logs_in() and manager.worked == password
    assert password not in bench.out + bench.err + bench.store.data.decode()
    assert "The database and the manager have a new password." in bench.out


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        (("--db-type", "remote", "--db-host", "db1"), "The database is on db1"),
        (("--db-password-file", "/etc/db"), "comes from /etc/db"),
    ],
)
def test_password_that_nqr_does_not_choose_stays(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...], what: str
) -> None:
    monkeypatch.setattr("nqrust.installer.settings.sources.read_password", lambda path, notes: Secret("of-the-file"))
    assert bench.nqr("install", *settings, "--ignore-preflight", "NQR-PRE-031") in (0, 3)
    monkeypatch.setattr(
        importlib.import_module("nqrust.installer.operations.rotating"),
        "_settings",
        lambda site: gather(flags=dict(_flags(settings)), environ={}).settings,
    )
    manager = FakeManager(bench.host)
    before = manager.stored
    assert bench.nqr("rotate", "database") == 2 and "NQR-USE-025" in bench.err and what in bench.err
    assert "nqr install --db-password-file FILE" in bench.err
    assert bench.nqr("rotate", "database", "certificates") == 0 and what in bench.out
    assert manager.stored == before and manager.begun == ["certificates"]


def _flags(words: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    names = {"--db-type": "database.type", "--db-host": "database.host", "--db-password-file": "database.password_file"}
    yield from ((names[flag], value) for flag, value in zip(words[::2], words[1::2], strict=True))


# --- tokens
def test_tokens_of_this_host_and_of_all_hosts_are_new(bench: Bench, manager: FakeManager) -> None:
    before = manager.stored
    assert bench.nqr("rotate", "tokens") == 0
    after = manager.stored
    for name, was, now in (
        ("cli-token", before.cli_token, after.cli_token),
        ("join-token", before.join_token, after.join_token),
    ):
        assert manager.read(name) == now.reveal() != was.reveal()
        assert now.reveal() not in bench.out + bench.store.data.decode()
    known = json.loads(manager.read("bootstrap.json"))
    assert known["tokens"][0]["sha256"] == hash_token(after.cli_token.reveal())
    assert known["join_tokens"][0]["sha256"] == hash_token(after.join_token.reveal())
    assert manager.begun == ["tokens"]
    assert (after.admin_password, after.ui_storage_secret) == (before.admin_password, before.ui_storage_secret)
    assert "API tokens of users stay" in bench.out


# --- the authority
def test_authority_is_replaced_in_three_stages(bench: Bench, manager: FakeManager) -> None:
    before = manager.stored
    assert bench.nqr("rotate", "authority") == 0
    after = manager.stored
    assert after.authority != before.authority and after.authority_key.reveal() != before.authority_key.reveal()
    assert (after.next_authority, after.former_authority, after.next_authority_key.reveal()) == ("", "", "")
    assert manager.trusted == (after.authority,) and manager.followed == ((after.authority,), after.authority)
    told = ("trust a new authority, besides", "new authority has signed", "Nobody trusts the former authority")
    assert [bench.out.index(line) for line in told] == sorted(bench.out.index(line) for line in told)
    assert after.authority_key.reveal() not in bench.out + bench.store.data.decode()


def test_new_authority_needs_no_turn_for_certificates(bench: Bench, manager: FakeManager) -> None:
    assert bench.nqr("rotate", "authority", "certificates") == 0 and manager.begun == []


def test_authority_waits_for_each_host_that_is_not_offline(bench: Bench, manager: FakeManager) -> None:
    manager.stuck, manager.offline = ("kvm8",), ("kvm7",)
    before = manager.stored
    assert bench.nqr("rotate", "authority", "--timeout", "5") == 1
    assert "NQR-SVC-111" in bench.err and "kvm8" in bench.err and "kvm7" not in bench.err
    stage = manager.stored
    assert stage.authority == before.authority and stage.next_authority, "the former one still signs"
    manager.stuck = ()
    assert bench.nqr("rotate", "authority") == 0 and "not waited for: kvm7" in bench.out
    assert manager.stored.authority == stage.next_authority, "the second run continues with the same one"


def test_install_keeps_the_stage_of_an_interrupted_rotation(bench: Bench, manager: FakeManager) -> None:
    manager.stuck = ("kvm8",)
    assert bench.nqr("rotate", "authority", "--timeout", "5") == 1
    context = bench.context(None, Request(Settings()))  # type: ignore[arg-type]
    files = {step.path: step for step in config.authority(context)}  # type: ignore[attr-defined]
    assert all(isinstance(step.inspect(bench.host), Satisfied) for step in files.values())
    assert len(pinning.certificates(manager.read("tls/ca.crt"))) == 2
    (note,) = rotating(manager.stored)
    assert "nqr rotate authority" in note
    manager.stuck = ()
    assert bench.nqr("rotate", "authority") == 0 and rotating(manager.stored) == ()


def test_everything_is_replaced_without_a_name(bench: Bench, manager: FakeManager) -> None:
    before = manager.stored
    assert bench.nqr("rotate") == 0
    after = manager.stored
    kept = ("admin_password", "admin_password_salt", "known_hash", "ui_storage_secret", "next_authority", "next_authority_key",
            "former_authority")  # fmt: skip
    same = {one.name for one in fields(before) if getattr(before, one.name) == getattr(after, one.name)}
    assert same == set(kept)
    assert manager.logs_in() and manager.talks()


# --- refusals
def test_host_without_a_manager_is_refused(bench: Bench) -> None:
    assert bench.nqr("rotate") == 2 and "NQR-USE-021" in bench.err


def test_sick_manager_is_refused_before_anything_changes(bench: Bench, manager: FakeManager) -> None:
    manager.answers = 503
    before = bench.store.data
    assert bench.nqr("rotate") == 2 and "NQR-USE-023" in bench.err and "503" in bench.err
    assert bench.store.data == before and bench.host.mutations == []


def test_unfinished_install_comes_first(bench: Bench, manager: FakeManager) -> None:
    bench.blocked = True
    assert bench.nqr("uninstall", "--non-interactive") == 0
    bench.host.put(paths.JOURNAL, "")  # the bench has its records in memory, and the state folder is nqr's because of them
    assert bench.nqr("install", "--on-failure", "keep") == 1
    assert bench.nqr("rotate") == 2 and "NQR-USE-022" in bench.err and "install was interrupted" in bench.err


def test_unknown_name_is_refused(bench: Bench, manager: FakeManager) -> None:
    assert bench.nqr("rotate", "everything") == 2 and "NQR-USE-003" in bench.err


def test_rollback_brings_no_old_secret_back(bench: Bench, manager: FakeManager) -> None:
    assert bench.nqr("rotate") == 0
    assert bench.nqr("rollback") == 2 and "NQR-USE-024" in bench.err and bench.has("/etc/of-nqr")
    assert bench.nqr("uninstall", "--non-interactive") == 0 and not bench.has("/etc/of-nqr")


def test_only_root_rotates(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert bench.nqr("rotate") == 2
