"""Forms: templates, accounts, and the behaviour of a dialog with inputs."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Site
from tests.browser.world import PASSWORD

SignIn = Callable[..., Page]


def answer(page: Page, verb: str) -> None:
    page.get_by_role("dialog").get_by_role("button", name=verb, exact=True).click()


def account(page: Page, entry: str) -> None:
    page.get_by_role("button", name=re.compile("^Account of")).click()
    page.get_by_role("menuitem", name=entry).click()


def fold(dialog: Locator, title: str) -> None:
    dialog.get_by_role("button", name=re.compile(title)).first.click()


def test_template_form_creates_a_template(sign_in: SignIn) -> None:
    page = sign_in("olga", "/templates", "Templates")
    page.get_by_role("button", name="New template").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name", exact=True).fill("web")
    dialog.get_by_label("Description").fill("Web server")
    dialog.get_by_label("vCPUs").fill("2")
    dialog.get_by_label("Tags").fill("web, shop")
    dialog.get_by_label("Network configuration").click()
    page.get_by_role("option", name="The image's own").click()
    fold(dialog, "Accounts and SSH keys")
    dialog.get_by_role("button", name="Add account").click()
    expect(dialog.get_by_label("Password")).to_be_hidden()
    dialog.get_by_label("User name").fill("ann")
    answer(page, "Save")
    made = page.get_by_role("row").filter(has_text="Web server")
    expect(made).to_contain_text("1 account")
    page.get_by_label("Create a VM of web").click()
    expect(dialog.get_by_label("vCPUs")).to_have_value("2")
    expect(dialog.get_by_label("Tags")).to_have_value("web, shop")
    dialog.get_by_label("Name", exact=True).fill("web9")
    fold(dialog, "Accounts and SSH keys")
    dialog.get_by_label("Password", exact=True).fill("a password")
    answer(page, "Create")
    expect(page.get_by_role("heading", name="web9")).to_be_visible()
    expect(page.get_by_role("main")).to_contain_text("2 vCPUs, 256 MiB memory")
    expect(page.get_by_role("main")).to_contain_text(re.compile(r"Network\s*The image's own"))
    page.get_by_role("link", name="Templates").click()
    page.get_by_label("Remove web").click()
    answer(page, "Remove")
    expect(page.get_by_role("heading", name="No templates")).to_be_visible()


@pytest.mark.parametrize("width", [1440, 390])
def test_a_template_is_changed_and_its_vms_are_not(sign_in: SignIn, site: Site, width: int) -> None:
    site.arrange("busy")
    page = sign_in("olga", "/templates", "Templates")
    page.set_viewport_size({"width": width, "height": 844})
    page.get_by_label("Create a VM of web").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name", exact=True).fill("made-before")
    fold(dialog, "Accounts and SSH keys")
    expect(dialog.get_by_label("User name")).to_have_value("ann")
    answer(page, "Create")
    expect(page.get_by_role("heading", name="made-before")).to_be_visible()
    page.goto(f"{site.url}/templates")

    page.get_by_label("Change web").click()
    expect(dialog.get_by_role("heading", name="Change web")).to_be_visible()
    expect(dialog).to_contain_text("Its VMs stay unchanged.")
    expect(dialog.get_by_label("Description")).to_be_focused()
    expect(dialog.get_by_label("Name", exact=True)).to_be_hidden()
    expect(dialog.get_by_label("vCPUs")).to_have_value("2")
    dialog.get_by_label("vCPUs").fill("4")
    dialog.get_by_label(re.compile("^Disk")).fill("much")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("Such as 512 MiB or 10 GiB")
    expect(dialog.get_by_label(re.compile("^Disk"))).to_be_focused()
    dialog.get_by_label(re.compile("^Disk")).fill("2 GiB")
    assert dialog.evaluate("element => element.scrollWidth <= element.clientWidth")
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("main")).to_contain_text("4 vCPUs, 512 MiB")
    page.get_by_label("Change web").click()
    expect(dialog.get_by_label(re.compile("^Disk"))).to_have_value("2 GiB")
    fold(dialog, "Accounts and SSH keys")
    expect(dialog.get_by_label("User name")).to_have_value("ann")
    expect(dialog.get_by_label("SSH keys, one per line")).to_have_value(
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFDYWOCYXsx/YEGKrwzFq1h/QsJXCohAlanozKzQ9lRc ann"
    )
    fold(dialog, "Rate limits")
    expect(dialog.get_by_label("Network out")).to_have_value("50")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.goto(f"{site.url}/vms/made-before")
    expect(page.get_by_role("main")).to_contain_text("2 vCPUs, 512 MiB memory")


def test_a_form_survives_a_connection_that_is_lost_for_a_while(sign_in: SignIn, site: Site) -> None:
    site.arrange("busy")
    page = sign_in("olga", "/vms", "VMs")
    page.get_by_role("button", name="Create VM").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name", exact=True).fill("patient")
    page.evaluate("window.socket.disconnect()")
    page.wait_for_timeout(16_000)
    page.evaluate("window.socket.connect()")
    expect(dialog.get_by_label("Name", exact=True)).to_have_value("patient")
    answer(page, "Create")
    expect(page.get_by_role("row").filter(has_text="patient")).to_be_visible()


def test_a_template_whose_image_is_not_ready_keeps_it(sign_in: SignIn, site: Site) -> None:
    site.arrange("busy")
    page = sign_in("olga", "/templates", "Templates")
    page.get_by_label("Change night").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("combobox", name="Image", exact=True)).to_have_value("builder – not ready")
    dialog.get_by_label("Description").fill("Nightly builds")
    answer(page, "Save")
    expect(page.get_by_role("row").filter(has_text="Nightly builds")).to_contain_text("builder")


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("name", ["admin", "olga", "victor"])
def test_everybody_changes_their_own_password(sign_in: SignIn, site: Site, name: str, width: int) -> None:
    page = sign_in(name)
    page.set_viewport_size({"width": width, "height": 844})
    if width < 1024:
        page.reload()  # a page that becomes narrow slides its menu out, for as long as that takes
        expect(page.get_by_role("button", name=re.compile("^Account of"))).not_to_be_in_viewport()
        page.get_by_label("Menu").click()
    account(page, "Change password")
    dialog = page.get_by_role("dialog").filter(has_text="Change your password")
    current, new, again = (
        dialog.get_by_label(label, exact=True) for label in ("Current password", "New password", "Confirm new password")
    )
    expect(current).to_be_focused()
    for old, first, second, said in (
        ("", "another password", "another password", "Enter your current password."),
        ("wrong", "another password", "another one", "The two new passwords differ."),
        ("wrong", "short", "short", "at least 12 characters"),
        ("wrong", "another password", "another password", "Type it again. (NQR-API-126)"),
    ):
        for field, value in ((current, old), (new, first), (again, second)):
            field.fill(value)
        page.keyboard.press("Enter")
        expect(dialog.get_by_role("alert")).to_contain_text(said)
    current.fill(PASSWORD)
    answer(page, "Change")
    expect(page.get_by_text("Password changed.")).to_be_visible()
    expect(dialog).to_have_count(0)
    page.goto(f"{site.url}/vms")
    expect(page.get_by_role("heading", name="No VMs yet")).to_be_visible()
    if width < 1024:
        page.get_by_label("Menu").click()
    account(page, "Sign out")
    page.wait_for_url(f"{site.url}/sign-in")
    page.get_by_label("User name").fill(name)
    for password in (PASSWORD, "another password"):
        page.get_by_label("Password", exact=True).fill(password)
        page.keyboard.press("Enter")
        if password == PASSWORD:
            expect(page.get_by_role("alert")).to_contain_text("Wrong user name or password.")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def test_a_user_gets_another_role_and_password(sign_in: SignIn, site: Site) -> None:
    page = sign_in("admin", "/access", "Users")
    page.get_by_label("Change victor").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("New password").fill("short")
    answer(page, "Save")
    expect(dialog.get_by_role("alert")).to_contain_text("at least 12 characters")
    dialog.get_by_label("New password").fill("longer than before")
    dialog.get_by_label("Role").click()
    page.get_by_role("option", name=re.compile("operator")).click()
    answer(page, "Save")
    expect(page.get_by_role("row").filter(has_text="victor")).to_contain_text("operator")
    account(page, "Sign out")
    page.wait_for_url(f"{site.url}/sign-in")
    page.get_by_label("User name").fill("victor")
    page.get_by_label("Password", exact=True).fill("longer than before")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def test_repeated_submit_sends_the_form_once(sign_in: SignIn, site: Site) -> None:
    page = sign_in("admin", "/access", "Users")
    page.get_by_role("button", name="Add user").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("User name")).to_be_focused()
    page.keyboard.type("nina")
    dialog.get_by_label("Password", exact=True).fill("long enough now")
    site.arrange("delay", 2.0)
    for _ in range(3):
        page.keyboard.press("Enter")
    expect(dialog.get_by_role("button", name="Add", exact=True).locator(".q-spinner")).to_be_visible()
    page.evaluate("document.querySelector('.q-dialog form').requestSubmit()")
    expect(dialog).to_have_count(0)
    site.arrange("delay", 0)
    expect(page.get_by_role("row").filter(has_text="nina")).to_have_count(1)
    page.goto(page.url.replace("/access", "/audit"))
    expect(page.get_by_role("table").get_by_text("POST /v1/users")).to_have_count(1)


def test_error_after_leaving_a_form_is_still_shown(sign_in: SignIn, site: Site) -> None:
    site.arrange("busy")
    page = sign_in("olga", "/vms/db1", "db1")
    page.get_by_role("tab", name="Snapshots").click()
    page.get_by_role("button", name="Take snapshot").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Name")).to_be_focused()
    site.arrange("delay", 2.0)
    page.keyboard.press("Enter")
    expect(dialog.locator(".q-spinner")).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page.get_by_text("Stop the VM, take the snapshot, then start the VM.")).to_be_visible()


def test_dialog_traps_focus_and_restores_it_on_close(sign_in: SignIn) -> None:
    page = sign_in("olga", "/vms", "VMs")
    button = page.get_by_role("button", name="Create VM").first
    expect(page.get_by_role("heading", name="No VMs yet")).to_be_visible()
    button.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_label("Name", exact=True)).to_be_focused()
    inside = "document.activeElement === document.body || document.activeElement.closest('.q-dialog') !== null"
    for _ in range(20):
        page.keyboard.press("Tab")
        page.wait_for_function(inside)  # Quasar takes it back as soon as it leaves
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(button).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Create VM").nth(1)).to_be_focused()
    assert "0px 0px 0px 4px" in page.evaluate("getComputedStyle(document.activeElement).boxShadow")
    page.get_by_role("link", name="Images").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
