"""The life of a VM in the browser, as an operator sees it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Site

SignIn = Callable[..., Page]


def row(page: Page, name: str) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))


def create(page: Page, name: str) -> None:
    page.get_by_role("button", name="Create VM").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Name")).to_have_value(re.compile("vm-1"))
    dialog.get_by_label("Name").fill(name)
    dialog.get_by_role("button", name="Create").click()
    expect(dialog).to_have_count(0)


def test_operator_creates_stops_starts_pauses_and_deletes_a_vm(sign_in: SignIn) -> None:
    page = sign_in("olga", "/vms", "VMs")
    expect(page.get_by_role("heading", name="No VMs yet")).to_be_visible()
    create(page, "web1")
    web1 = row(page, "web1")
    expect(web1).to_contain_text("running")  # without a reload
    expect(web1).to_contain_text("10.0.0.10")

    web1.get_by_label("Stop web1").click()
    page.get_by_role("button", name="Cancel").click()
    expect(web1).to_contain_text("running")
    web1.get_by_label("Stop web1").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop").click()
    expect(web1).to_contain_text("stopped")

    web1.get_by_label("Start web1").click()
    expect(web1).to_contain_text("running")
    web1.get_by_label("Pause web1").click()
    expect(web1).to_contain_text("paused")
    web1.get_by_label("Resume web1").click()
    expect(web1).to_contain_text("running")

    web1.get_by_label("Delete web1").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(web1).to_have_count(0)
    expect(page.get_by_role("heading", name="No VMs yet")).to_be_visible()


def test_create_form_names_invalid_fields(sign_in: SignIn) -> None:
    page = sign_in("olga", "/vms", "VMs")
    create(page, "web1")
    page.get_by_role("button", name="Create VM").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("Web 1")
    expect(dialog).to_contain_text("Lower-case letters, digits and hyphens")
    dialog.get_by_role("button", name="Create").click()
    expect(dialog).to_be_visible()
    dialog.get_by_label("Name").fill("web1")
    expect(dialog).to_contain_text("This name is taken")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def test_create_with_the_keyboard_alone(sign_in: SignIn) -> None:
    page = sign_in("olga", "/vms", "VMs")
    expect(page.get_by_role("heading", name="No VMs yet")).to_be_visible()
    page.get_by_role("button", name="Create VM").first.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_label("Name")).to_be_focused()
    page.keyboard.press("Enter")
    expect(row(page, "vm-1")).to_contain_text("running")


def test_console_tab_sends_keys_to_the_guest(sign_in: SignIn, site: Site) -> None:
    page = sign_in("olga", "/vms", "VMs")
    create(page, "web1")
    row(page, "web1").get_by_role("link", name="web1").click()
    expect(page.get_by_role("heading", name="web1")).to_be_visible()
    expect(page.get_by_role("main")).to_contain_text("running")
    page.get_by_role("tab", name="Console").click()
    expect(page.get_by_text("Connected", exact=True)).to_be_visible()
    screen = page.locator(".xterm-rows")
    expect(screen).to_contain_text("web1 login:")
    page.keyboard.type("root\r")
    page.keyboard.type("uname -a\r")
    expect(screen).to_contain_text(re.compile(rf"{os.uname().release}.* {os.uname().machine}"))
    assert "ticket" not in page.url and "ticket" not in page.content()
    page.keyboard.press("Control+]")
    expect(page.locator(".xterm textarea")).not_to_be_focused()


def test_shell_tab_opens_a_shell_of_the_window_size(sign_in: SignIn, site: Site) -> None:
    page = sign_in("olga", "/vms", "VMs")
    create(page, "web1")
    row(page, "web1").get_by_role("link", name="web1").click()
    expect(page.get_by_role("main")).to_contain_text("running")
    page.get_by_role("tab", name="Shell").click()
    expect(page.get_by_text("Connected", exact=True)).to_be_visible()
    screen = page.locator(".xterm-rows")
    expect(screen).to_contain_text("shell#")
    page.keyboard.type("echo $TERM-$((6 * 7)); stty size\r")
    expect(screen).to_contain_text("xterm-256color-42")
    expect(screen).to_contain_text(re.compile(r"\d\d \d{2,3}shell#"))
    page.keyboard.type("head -c 600000 /dev/zero | tr '\\0' x; echo all-$((40 + 2))\r")  # more than a window of credit
    expect(screen).to_contain_text("all-42", timeout=30_000)
    page.keyboard.type("exit\r")
    expect(page.get_by_text("The shell ended with exit code 3.")).to_be_visible()
    page.get_by_role("button", name="Reconnect").click()
    expect(page.get_by_text("Connected", exact=True)).to_be_visible()


def test_shell_tab_waits_for_a_guest_that_boots(sign_in: SignIn, site: Site) -> None:
    page = sign_in("olga", "/vms", "VMs")
    create(page, "web1")
    row(page, "web1").get_by_role("link", name="web1").click()
    expect(page.get_by_role("main")).to_contain_text("running")
    site.arrange("booting", "web1")
    page.get_by_role("tab", name="Shell").click()
    expect(page.get_by_text("Waiting for the guest …", exact=True)).to_be_visible()
    page.wait_for_timeout(1500)  # it asks several times meanwhile
    expect(page.get_by_text("Waiting for the guest …", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Connect")).to_be_hidden()
    site.arrange("booted", "web1")
    expect(page.get_by_text("Connected", exact=True)).to_be_visible()
    expect(page.locator(".xterm-rows")).to_contain_text("shell#")


def test_shell_tab_tells_a_guest_without_an_agent(sign_in: SignIn, site: Site) -> None:
    site.arrange("busy")
    page = sign_in("olga", "/vms/web1", "web1")
    expect(page.get_by_role("main")).to_contain_text("running")
    site.arrange("booting", "web1")
    site.arrange("started-long-ago", "web1")
    page.get_by_role("tab", name="Shell").click()
    expect(page.get_by_text("The shell was closed: No guest agent in the VM answers.")).to_be_visible()
    expect(page.get_by_role("button", name="Reconnect")).to_be_visible()


@pytest.mark.parametrize("width", [360, 390])
def test_all_tabs_of_a_vm_fit_a_phone(sign_in: SignIn, site: Site, width: int) -> None:
    page = sign_in("olga", "/vms", "VMs")
    create(page, "web1")
    row(page, "web1").get_by_role("link", name="web1").click()
    page.set_viewport_size({"width": width, "height": 844})
    expect(page.get_by_role("tab", name="Events")).to_be_in_viewport(ratio=1)
    expect(page.locator(".q-tabs__arrow--right")).to_be_hidden()


def test_vm_page_shows_metrics_and_facts(sign_in: SignIn, site: Site) -> None:
    site.arrange("busy")
    page = sign_in("victor", "/vms/web1", "web1")
    main = page.get_by_role("main")
    expect(main).to_contain_text("10.0.0.1, reached")
    expect(main.get_by_role("img", name="Processor").locator("svg")).to_be_visible()
    expect(main.get_by_role("button", name="Stop")).to_have_count(0)
    page.get_by_role("tab", name="Events").click()
    expect(main).to_contain_text("web1 is running on")
    page.get_by_role("tab", name="Console").click()
    expect(main).to_contain_text("The console needs the role operator.")
    page.get_by_role("tab", name="Shell").click()
    expect(main).to_contain_text("The shell needs the role operator.")


def test_stop_and_delete_from_its_own_page(sign_in: SignIn, site: Site) -> None:
    site.arrange("busy")
    page = sign_in("admin", "/vms/db1", "db1")
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop").click()
    expect(page.get_by_role("main")).to_contain_text("stopped")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page).to_have_url(f"{site.url}/vms")
    expect(row(page, "db1")).to_have_count(0)


def test_page_of_a_missing_vm_says_so(sign_in: SignIn) -> None:
    page = sign_in("admin", "/vms/ghost", "ghost")
    expect(page.get_by_role("alert").first).to_contain_text("There is no VM ghost")


def test_a_long_name_pushes_no_column_out_of_the_list(sign_in: SignIn, site: Site) -> None:
    page = sign_in("olga", "/vms", "VMs")
    page.set_viewport_size({"width": 1280, "height": 800})
    create(page, "a" * 63)
    expect(page.get_by_role("button", name=f"Delete {'a' * 63}")).to_be_in_viewport(ratio=1)
    scroller = page.locator(".q-table__middle")
    assert scroller.evaluate("table => table.scrollWidth - table.clientWidth") == 0


def test_the_list_narrows_to_cards(sign_in: SignIn, site: Site) -> None:
    site.arrange("busy")
    page = sign_in("olga", "/vms", "VMs")
    page.set_viewport_size({"width": 390, "height": 844})
    expect(page.get_by_role("table")).to_have_count(0)
    entry = page.locator(".entry").filter(has=page.get_by_role("link", name="broken", exact=True))
    expect(entry).to_contain_text("panicked")
    page.get_by_label("Search").fill("cache")
    expect(page.locator(".entry")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_label("Menu").click()
    page.get_by_role("link", name="Hosts").click()
    expect(page.get_by_role("heading", name="Hosts")).to_be_visible()
