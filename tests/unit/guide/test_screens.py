"""The four screens, key by key, over an installer in memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml
from tests.unit.guide.a_guide import DONE, FAILED, Memory, at_progress, at_review, at_settings, focus, guide, text, until, words

from nqrust.guide.app import Ending, Guide
from nqrust.installer.engine.errors import NqrError, PreflightRefused, VerifyFailed
from nqrust.installer.preflight import findings
from nqrust.installer.preflight.run import Checked
from nqrust.installer.request import Summary
from nqrust.installer.settings.yaml_file import parse

TOKEN = "nqr_0123456789abcdef.AABB"
LINE = (
    f"(umask 077; echo {TOKEN} >join-token); ./scripts/install/install.sh --mode agent --agent-name h2"
    " --manager-url https://10.77.0.2:18080 --join-token-file join-token"
)


# --- screen 1: this host


async def test_the_host_is_shown_with_each_check_its_code_and_its_cure() -> None:
    app = guide()
    async with app.run_test(size=(80, 24)) as pilot:
        shown = await until(pilot, "This host is ready for the install.")
    for wanted in ("Debian GNU/Linux 12", "8 CPUs", "GiB free on /", "eth0, 192.0.2.10"):
        assert wanted in shown
    for wanted in ("warn  Machine and KVM", "NQR-PRE-009", "cure: Enable virtualisation.", "ok    Ports", "note  VM network"):
        assert wanted in shown


async def test_a_problem_is_counted_and_r_checks_again() -> None:
    memory = Memory(checked=(Checked("Ports", (findings.error("NQR-PRE-021", "Port 3000 is taken.", "Stop nginx."),)),))
    async with guide(memory).run_test() as pilot:
        shown = await until(pilot, "1 problem would stop the install")
        assert "STOP  Ports" in shown and "cure: Stop nginx." in shown
        memory.checked = (Checked("Ports"),)
        await pilot.press("r")
        await until(pilot, "This host is ready")
    assert memory.examined == 2


async def test_an_interrupted_run_and_an_installation_are_named() -> None:
    async with guide(Memory(unfinished="install", recorded={"mode": "minimal"})).run_test() as pilot:
        shown = await until(pilot, "A run of install was interrupted here.")
        assert "`nqr rollback` undoes it" in words(shown) and "is installed here" in shown
    async with guide(Memory(unfinished="uninstall")).run_test() as pilot:
        shown = words(await until(pilot, "An uninstall was interrupted here."))
        assert "This install puts the platform back" in shown and "rollback" not in shown


async def test_a_host_that_cannot_be_examined_says_why_and_goes_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory()
    app = guide(memory)

    def damaged(found: object) -> None:
        raise NqrError("NQR-ENG-010", "The journal is damaged.", "Restore it.")

    monkeypatch.setattr(memory, "examine", damaged)
    async with app.run_test() as pilot:
        shown = await until(pilot, "NQR-ENG-010")
        assert "cure: Restore it." in shown
        await pilot.press("enter")
        await pilot.pause(0.1)
        assert "[Host]" in text(pilot)


# --- screen 2: settings


async def test_defaults_are_offered_and_nothing_is_explicit() -> None:
    app = guide()
    async with app.run_test(size=(80, 24)) as pilot:
        await at_settings(app, pilot)
        shown = text(pilot)
        for wanted in ("< production >", "< nat >", "10.0.0.0/24 is free here.", "< lan >", "< local >", "< auto >"):
            assert wanted in shown, wanted
        await pilot.press("ctrl+n")
        await until(pilot, "Exposed")
    assert app.state.found.explicit == frozenset()


async def test_a_role_hides_what_has_no_effect() -> None:
    app = guide()
    async with app.run_test(size=(80, 40)) as pilot:
        await at_settings(app, pilot)
        await pilot.press("right", "right")
        shown = await until(pilot, "< manager >")
        assert "Subnet" not in shown and "VMM" not in shown and "PostgreSQL" in shown
        await pilot.press("right")
        shown = await until(pilot, "< agent >")
        assert "Join line" in shown and "Admin password" not in shown and "PostgreSQL" not in shown
        await pilot.press("left", "left", "left")
        await until(pilot, "< production >")
    assert app.state.found.settings.mode.value == "production"


async def test_the_whole_join_line_is_pasted_and_its_token_is_not_shown() -> None:
    app = guide()
    async with app.run_test(size=(80, 40)) as pilot:
        await at_settings(app, pilot)
        await pilot.press("left")
        await until(pilot, "< agent >")
        await focus(pilot, "join")
        app.screen.focused.value = LINE  # type: ignore[union-attr]
        shown = await until(pilot, "https://10.77.0.2:18080")
        assert "h2" in shown and TOKEN not in shown
    found = app.state.found
    assert found.settings.agent.name == "h2" and found.join_token is not None and found.join_token.reveal() == TOKEN


async def test_half_a_join_line_is_refused_with_its_cure() -> None:
    app = guide()
    async with app.run_test(size=(80, 24)) as pilot:
        await at_settings(app, pilot)
        await pilot.press("left")
        await focus(pilot, "join")
        app.screen.focused.value = LINE[:30]  # type: ignore[union-attr]
        await pilot.press("ctrl+n")
        shown = await until(pilot, "NQR-USE-031")
        assert "[Settings]" in shown and "nqr host token NAME" in shown


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("network.cidr", "10.0.0.0/33", "NQR-CFG-009"),
        ("network.bridge_name", "much-too-long-a-name", "NQR-USE-003"),
        ("paths.image_dir", "/srv/my images", "NQR-USE-003"),
        ("NQR_ADMIN_PASSWORD", "short", "NQR-CFG-013"),
    ],
)
async def test_a_field_is_checked_by_the_code_of_its_option(key: str, value: str, code: str) -> None:
    app = guide()
    async with app.run_test(size=(80, 24)) as pilot:
        await at_settings(app, pilot)
        await focus(pilot, key)
        app.screen.focused.value = value  # type: ignore[union-attr]
        await pilot.press("ctrl+n")
        shown = await until(pilot, code)
        assert "[Settings]" in shown and "cure:" in shown and "! " in shown
        app.screen.focused.value = ""  # type: ignore[union-attr]
        await pilot.press("ctrl+n")
        await until(pilot, "Exposed")


async def test_a_subnet_in_use_is_named_with_a_free_one() -> None:
    app = guide()
    async with app.run_test(size=(80, 24)) as pilot:
        await at_settings(app, pilot)
        await focus(pilot, "network.cidr")
        app.screen.focused.value = "10.9.0.0/16"  # type: ignore[union-attr]
        await pilot.press("down")
        shown = await until(pilot, "10.9.0.0/16 overlaps 10.9.0.0/24 on lab0.")
        assert "Free: 10.127.0.0/24" in shown


async def test_the_exposure_sets_both_listeners_and_keeps_their_ports() -> None:
    app = guide(Memory(recorded={"ui.bind": "0.0.0.0:3333"}))
    async with app.run_test(size=(80, 24)) as pilot:
        await at_settings(app, pilot)
        await focus(pilot, "exposure")
        await pilot.press("right")
        await until(pilot, "< loopback > this host only")
    settings = app.state.found.settings
    assert (settings.ui.bind, settings.manager.bind) == ("127.0.0.1:3333", "127.0.0.1:18080")


async def test_a_remote_database_asks_for_host_and_hidden_password() -> None:
    app = guide()
    async with app.run_test(size=(80, 40)) as pilot:
        await at_settings(app, pilot)
        await focus(pilot, "database.type")
        await pilot.press("right")
        shown = await until(pilot, "NQR-CFG-009")
        assert "its host was not given" in shown
        await focus(pilot, "database.host")
        app.screen.focused.value = "db.example"  # type: ignore[union-attr]
        await focus(pilot, "NQR_DB_PASSWORD")
        app.screen.focused.value = "very secret"  # type: ignore[union-attr]
        await pilot.press("ctrl+n")
        await until(pilot, "Exposed")
    found = app.state.found
    assert found.settings.database.host == "db.example" and found.db_password is not None
    assert found.db_password.reveal() == "very secret" and "very secret" not in shown


async def test_keys_walk_through_the_form_and_back_to_the_host() -> None:
    app = guide()
    async with app.run_test(size=(80, 24)) as pilot:
        await at_settings(app, pilot)
        await pilot.press("down")
        await until(pilot, "> Network")
        await pilot.press("tab", "shift+tab", "up")
        await until(pilot, "> Role")
        await pilot.press("escape")
        await until(pilot, "[Host]")


# --- screen 3: review


async def test_the_review_says_what_where_how_long_and_how_to_undo() -> None:
    app = guide()
    async with app.run_test(size=(80, 24)) as pilot:
        shown = await at_review(app, pilot)
        assert "3 changes in 2 phases, 7 already so." in shown and "deps 2, network 1" in shown
        for wanted in ("https://192.0.2.10:3000", "this host only", "about 2 minutes", "up to 3 GB", "nqr uninstall"):
            assert wanted in shown
        await pilot.press("d")
        shown = await until(pilot, "+ create bridge fcbr0")
        assert "+ build the release" in shown
        await pilot.press("d")
        await until(pilot, "Exposed")
        await pilot.press("escape")
        await until(pilot, "[Settings]")


@pytest.mark.parametrize(
    ("keeps", "said"), [(False, "A failure or Ctrl-C rolls this run back."), (True, "A failure keeps its changes")]
)
async def test_the_review_says_what_a_failure_leaves(keeps: bool, said: str) -> None:
    app = guide(Memory(keeps=keeps))
    async with app.run_test(size=(80, 24)) as pilot:
        assert said in words(await at_review(app, pilot))


async def test_a_refusal_is_shown_with_its_cures_and_the_install_cannot_start() -> None:
    taken = NqrError("NQR-PRE-021", "Port 3000 is taken.", "Stop nginx.")
    memory = Memory(refusal=PreflightRefused("NQR-PRE-021", "Port 3000 is taken.", "Stop nginx.", (taken,)))
    app = guide(memory)
    async with app.run_test(size=(80, 24)) as pilot:
        await at_settings(app, pilot)
        await pilot.press("ctrl+n")
        shown = await until(pilot, "This install cannot start.")
        assert "NQR-PRE-021" in shown and "cure: Stop nginx." in shown
        await pilot.press("enter")
        await pilot.pause(0.1)
        assert memory.installed == []
        memory.refusal = None
        await pilot.press("r")
        await until(pilot, "Exposed")
    assert memory.planned == 2


async def test_settings_are_saved_as_yaml_that_nqr_reads() -> None:
    memory = Memory()
    app = guide(memory)
    async with app.run_test(size=(80, 40)) as pilot:
        await at_settings(app, pilot)
        await pilot.press("right")
        await focus(pilot, "NQR_ADMIN_PASSWORD")
        app.screen.focused.value = "a long password"  # type: ignore[union-attr]
        await pilot.press("ctrl+n")
        await until(pilot, "Exposed")
        await pilot.press("s")
        await until(pilot, "Save the settings")
        await pilot.press("enter")
        await until(pilot, "nqr install --config nqr-config.yaml")
        await pilot.press("s")
        await until(pilot, "Save the settings")
        await pilot.press("escape")
    (saved,) = memory.saved.values()
    assert "a long password" not in saved and "NQR_ADMIN_PASSWORD" in saved
    assert {name: leaf.value for name, leaf in parse(saved.encode(), "f").leaves.items()} == {"mode": "minimal"}
    assert yaml.safe_load(saved) == {"mode": "minimal"}


async def test_h_leaves_for_a_rehearsal_and_the_guide_comes_back_to_the_review() -> None:
    app = guide()
    async with app.run_test() as pilot:
        await at_review(app, pilot)
        await pilot.press("h")
    assert app.return_value is Ending.rehearse
    app.state.message = "The rehearsal succeeded."
    again = Guide(app.state, "review")
    async with again.run_test() as pilot:
        shown = await until(pilot, "The rehearsal succeeded.")
        assert "3 changes in 2 phases" in shown


# --- screen 4: the install and its end


async def test_an_install_shows_its_phases_time_left_and_log_then_proof_addresses_password_and_commands() -> None:
    memory = Memory()
    app = guide(memory)
    async with app.run_test(size=(80, 24)) as pilot:
        shown = await at_progress(app, pilot)
        assert "about 2 minutes left" in shown and "/var/log/nqrust-install/" in shown
        assert "deps      1 of 2: install the packages" in shown and "0 %" in shown
        memory.gate.set()
        shown = await until(pilot, "NQRust-MicroVM is installed.")
        for wanted in ("a test VM: booted in 3 s", "https://10.77.0.2:3000", "k7PgenerAted", "nqr vm create web1 --image tiny"):
            assert wanted in shown
        assert "nqr vm console web1" in shown
        await pilot.press("enter")
    assert app.return_value is Ending.done and app.state.summary is DONE


async def test_a_failure_shows_code_cure_and_next_command() -> None:
    memory = Memory(summary=FAILED)
    memory.gate.set()
    app = guide(memory)
    async with app.run_test(size=(80, 24)) as pilot:
        await at_review(app, pilot)
        await pilot.press("enter")
        shown = await until(pilot, "was rolled back")
    for wanted in ("NQR-DEP-201", "cure: Repair the package sources.", "Next      nqr install"):
        assert wanted in shown


async def test_an_unproven_install_points_to_the_doctor() -> None:
    failure = VerifyFailed("NQR-VER-001", "Installed, but a VM could not be proven.", "Look at the log.")
    memory = Memory(summary=replace(DONE, outcome="failed", exit_code=4, failure=failure))
    memory.gate.set()
    app = guide(memory)
    async with app.run_test(size=(80, 24)) as pilot:
        await at_review(app, pilot)
        await pilot.press("enter")
        shown = await until(pilot, "a proof failed")
    assert "NQR-VER-001" in shown and "Next      nqr doctor" in shown


async def test_an_unexpected_error_of_the_install_ends_the_guide_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory()

    def broken(*_: object) -> None:
        raise RuntimeError("inside")

    monkeypatch.setattr(memory, "install", broken)
    app = guide(memory)
    async with app.run_test() as pilot:
        await at_review(app, pilot)
        await pilot.press("enter")
        await pilot.pause(0.5)
    assert app.return_value is Ending.failed and isinstance(app.error, RuntimeError)


async def test_a_password_that_somebody_chose_is_not_shown() -> None:
    memory = Memory()
    memory.gate.set()
    app = guide(memory)
    async with app.run_test(size=(80, 24)) as pilot:
        await at_settings(app, pilot)
        await focus(pilot, "NQR_ADMIN_PASSWORD")
        app.screen.focused.value = "a long password"  # type: ignore[union-attr]
        await pilot.press("ctrl+n")
        await until(pilot, "Exposed")
        await pilot.press("enter")
        shown = await until(pilot, "with the password that you chose")
    assert "a long password" not in shown and "k7PgenerAted" not in shown


async def test_a_plan_that_changed_since_the_review_installs_nothing_and_is_reviewed_again() -> None:
    memory = Memory(summary=Summary("ok", 0, notes=("Nothing was changed.",)))
    memory.gate.set()
    app = guide(memory)
    async with app.run_test(size=(80, 24)) as pilot:
        await at_review(app, pilot)
        await pilot.press("enter")
        shown = await until(pilot, "This host has changed since the review")
        assert "3 changes in 2 phases" in shown and memory.planned == 2
        memory.summary = DONE
        await pilot.press("enter")
        await until(pilot, "NQRust-MicroVM is installed.")
    assert len(memory.installed) == 2


async def test_a_former_installation_shows_no_password_again() -> None:
    memory = Memory(recorded={"mode": "production"})
    memory.gate.set()
    app = guide(memory)
    async with app.run_test(size=(80, 24)) as pilot:
        await at_review(app, pilot)
        await pilot.press("enter")
        shown = await until(pilot, "is installed.")
    assert "k7PgenerAted" not in shown and "the first password is in" in shown
