"""Ways out of the guide at each screen, and its screens at each size."""

from __future__ import annotations

import pytest
from tests.unit.guide.a_guide import FACTS, Memory, at_progress, at_review, at_settings, focus, guide, text, until, whole

from nqrust.guide.app import Ending
from nqrust.installer.preflight import findings
from nqrust.installer.preflight.run import Checked

SIZES = ((60, 20), (80, 24), (120, 40))


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
async def test_stopping_asks_first_and_then_waits_for_the_rollback(key: str) -> None:
    memory = Memory()
    app = guide(memory)
    async with app.run_test(size=(80, 24)) as pilot:
        await at_progress(app, pilot)
        await pilot.press(key)
        await until(pilot, "Stop the install?")
        await pilot.press("n")
        await until(pilot, "deps")
        assert app.state.run is not None and not app.state.run.interruption.came
        await pilot.press(key, "y")
        shown = await until(pilot, "interrupted and rolled back")
        assert "NQR-ENG-030" in shown and "Next      nqr install" in shown
        await pilot.press("q")
    assert app.return_value is Ending.done and app.state.summary is not None and app.state.summary.exit_code == 130


# --- quitting before the install


@pytest.mark.parametrize(("key", "ending"), [("q", Ending.left), ("ctrl+c", Ending.stopped), ("ctrl+q", Ending.stopped)])
@pytest.mark.parametrize("screen", ["host", "review"])
async def test_quitting_before_the_install_changes_nothing(screen: str, key: str, ending: Ending) -> None:
    memory = Memory()
    app = guide(memory)
    async with app.run_test() as pilot:
        await (until(pilot, "is ready for") if screen == "host" else at_review(app, pilot))
        await pilot.press(key)
    assert app.return_value is ending and memory.installed == []


async def test_a_signal_before_the_install_ends_the_guide() -> None:
    app = guide()
    async with app.run_test() as pilot:
        await at_settings(app, pilot)
        app.state.signal = 15
        await pilot.pause(0.3)
    assert app.return_value is Ending.stopped


# --- sizes and colours


@pytest.mark.parametrize("size", SIZES)
async def test_nothing_is_cut_at_any_width(size: tuple[int, int]) -> None:
    """Every word of each screen's texts is on the screen, or a scroll away; keys and title always are."""
    memory = Memory()
    app = guide(memory)
    async with app.run_test(size=size) as pilot:
        await until(pilot, "is ready for")
        whole(pilot, "Enter continue", "r check again", "q quit", "[Host] > Settings > Review > Install")
        await pilot.press("enter")
        await until(pilot, "Role of this host")
        whole(pilot, "Ctrl+N continue", "Ctrl+C quit", "everything on this host")
        for _ in range(12):
            await pilot.press("down")
        await until(pilot, "> VM folder")
        await pilot.press("ctrl+n")
        await until(pilot, "Exposed")
        whole(pilot, "Enter install", "h rehearse", "s save as YAML", "q quit", "https://192.0.2.10:18080 with sign-in")
        await pilot.press("enter")
        await until(pilot, "left")
        whole(pilot, "install the packages postgresql and dnsmasq", "Ctrl+C or q stop and roll back")
        memory.gate.set()
        await until(pilot, "is installed.")
        await pilot.press("pagedown")
        whole(pilot, "nqr vm create web1 --image tiny", "nqr vm console web1", "Enter or q close")


async def test_a_long_finding_goes_on_in_the_next_line_below_its_text() -> None:
    words = "The file system of /srv/images (/srv) has 12000 MiB, which is less than the 20 GB that nqr asks for here."
    memory = Memory(checked=(Checked("Folders", (findings.warning("NQR-PRE-006", words),)),), facts=FACTS)
    async with guide(memory).run_test(size=(60, 24)) as pilot:
        await until(pilot, "NQR-PRE-006")
        whole(pilot, words)
        after = next(line for line in text(pilot).splitlines() if "has 12000" in line or "(/srv) has" in line)
        assert after.startswith(" " * 19)


async def test_only_ascii_is_drawn_and_focus_needs_no_colour() -> None:
    app = guide()
    async with app.run_test(size=(80, 24)) as pilot:
        await at_settings(app, pilot)
        assert text(pilot).isascii() and "> Role" in text(pilot)
        await pilot.press("ctrl+n")
        assert (await until(pilot, "Exposed")).isascii()


async def test_a_complaint_is_whole_in_60_columns_and_no_key_is_divided() -> None:
    app = guide()
    async with app.run_test(size=(60, 20)) as pilot:
        await at_settings(app, pilot)
        await focus(pilot, "network.cidr")
        app.screen.focused.value = "10.0.0.0/33"  # type: ignore[union-attr]
        await pilot.press("down")
        shown = await until(pilot, "NQR-CFG-009")
        whole(pilot, "Given: network.cidr (flag --network-cidr).", "cure: Correct them together; see docs/reference/settings.md.")
        assert "Esc back" in shown and "Ctrl+N continue" in shown


async def test_an_empty_password_field_says_what_happens() -> None:
    app = guide()
    async with app.run_test(size=(80, 24)) as pilot:
        await at_settings(app, pilot)
        assert "Admin password  generated" in text(pilot)
