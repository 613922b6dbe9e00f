"""Details of VMs, volumes and downloads, and a long list."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site
from tests.browser.test_forms import answer, fold
from tests.browser.test_vms import row

SignIn = Callable[..., Page]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFDYWOCYXsx/YEGKrwzFq1h/QsJXCohAlanozKzQ9lRc ann@laptop"


def test_vm_page_shows_every_configured_feature(sign_in: SignIn, site: Site) -> None:
    site.arrange("busy")
    page = sign_in("olga", "/vms", "VMs")
    page.get_by_role("button", name="Create VM").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name", exact=True).fill("shop")
    dialog.get_by_label(re.compile("^Disk")).fill("two")
    expect(dialog).to_contain_text("Such as 512 MiB or 10 GiB")
    dialog.get_by_label(re.compile("^Disk")).fill("1.5 GiB")
    fold(dialog, "Accounts and SSH keys")
    dialog.get_by_role("button", name="Add account").click()
    dialog.get_by_label("User name").fill("ann")
    dialog.get_by_role("button", name="Create", exact=True).click()
    expect(dialog.get_by_role("alert")).to_contain_text("Account ann needs a password or an SSH key.")
    dialog.get_by_label("SSH keys, one per line").fill(KEY)
    fold(dialog, "Port forwards")
    dialog.get_by_role("button", name="Add port forward").click()
    dialog.get_by_label("Host port").fill("2222")
    dialog.get_by_label("VM port").fill("22")
    dialog.get_by_role("button", name="Add port forward").click()
    expect(dialog.get_by_label("Remove port forward")).to_have_count(2)
    dialog.get_by_label("Remove port forward").last.click()
    expect(dialog.get_by_label("Remove port forward")).to_have_count(1)
    expect(dialog.get_by_role("button", name="Add port forward")).to_be_focused()
    fold(dialog, "Volumes")
    dialog.get_by_role("button", name="Add volume").click()
    dialog.get_by_label("Size").fill("10 GiB")
    dialog.get_by_role("button", name="Add volume").click()
    expect(dialog.get_by_label("Remove volume")).to_have_count(2)
    dialog.get_by_label("Volume", exact=True).last.click()
    page.get_by_role("option", name=re.compile("shop-vdb-7f3a")).click()
    fold(dialog, "Rate limits")
    dialog.get_by_label("Network in").fill("100")
    dialog.get_by_role("button", name="Create", exact=True).click()
    expect(page.get_by_text("Creating shop.")).to_be_visible()
    expect(dialog).to_have_count(0)

    row(page, "shop").get_by_role("link", name="shop").click()
    main = page.get_by_role("main")
    expect(main).to_contain_text("1.5 GiB disk")
    expect(main).to_contain_text(re.compile(r"Limits\s*352 MiB memory, 1.5 CPUs, 256 tasks"))
    expect(main).to_contain_text(re.compile(r"Accounts\s*ann"))
    expect(page.get_by_role("region", name="Port forwards")).to_contain_text(re.compile(r":2222.*22/tcp", re.DOTALL))
    volumes = page.get_by_role("region", name="Volumes")
    expect(volumes).to_contain_text(re.compile(r"vdb\s*deleted with the VM\s*10 GiB.*vdc\s*kept\s*20 GiB"))
    expect(page.get_by_role("region", name="Rate limits")).to_contain_text("100 Mbit/s")


def test_forwards_and_rate_limits_of_a_running_vm_are_changed(sign_in: SignIn, site: Site) -> None:
    site.arrange("busy")
    page = sign_in("olga", "/vms/web2", "web2")
    page.get_by_label("Change port forwards").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Host port").fill("8080")
    dialog.get_by_label("VM port").fill("80")
    answer(page, "Save")
    expect(dialog.get_by_role("alert")).to_contain_text("Choose another port.")
    dialog.get_by_label("Host port").fill("8081")
    answer(page, "Save")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("region", name="Port forwards")).to_contain_text("80/tcp")

    page.get_by_label("Change rate limits").click()
    expect(dialog.get_by_label("Network in")).to_have_value("100")
    dialog.get_by_label("Network in").fill("")
    dialog.get_by_label("Each disk (MiB/s)").fill("20")
    answer(page, "Save")
    limits = page.get_by_role("region", name="Rate limits")
    expect(limits).to_contain_text(re.compile(r"Network in\s*not limited"))
    expect(limits).to_contain_text("20 MiB/s")


def test_snapshot_is_taken_restored_and_deleted(sign_in: SignIn, site: Site) -> None:
    site.arrange("busy")
    page = sign_in("olga", "/vms/batch-old", "batch-old")
    page.get_by_role("tab", name="Snapshots").click()
    expect(page.get_by_role("heading", name="No snapshots")).to_be_visible()
    page.get_by_role("button", name="Take snapshot").click()
    page.get_by_role("dialog").get_by_label("Name").fill("Before!")
    answer(page, "Take")
    expect(page.get_by_role("dialog")).to_contain_text("Lower-case letters, digits and hyphens")
    page.get_by_role("dialog").get_by_label("Name").fill("before")
    page.keyboard.press("Enter")
    taken = page.get_by_role("row").filter(has_text="before")
    expect(taken).to_contain_text("ready")
    expect(taken).to_contain_text("32 MiB")
    page.get_by_label("Restore before").click()
    answer(page, "Restore")
    expect(page.get_by_text("Restoring batch-old to before.")).to_be_visible()
    page.get_by_label("Delete before").click()
    answer(page, "Delete")
    expect(page.get_by_role("heading", name="No snapshots")).to_be_visible()


def test_create_form_explains_features_that_the_vmm_lacks(sign_in: SignIn, site: Site) -> None:
    site.arrange("busy")
    page = sign_in("olga", "/vms/db1", "db1")
    page.get_by_role("tab", name="Snapshots").click()
    page.get_by_role("button", name="Take snapshot").click()
    answer(page, "Take")
    expect(page.get_by_role("alert")).to_contain_text("Stop the VM, take the snapshot, then start the VM.")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_volumes_of_a_stopped_vm_are_attached_and_detached(sign_in: SignIn, site: Site) -> None:
    site.arrange("busy")
    page = sign_in("olga", "/vms/batch-old", "batch-old")
    card, dialog = page.get_by_role("region", name="Volumes"), page.get_by_role("dialog")
    page.get_by_label("Attach a volume").click()
    answer(page, "Attach")
    expect(dialog.get_by_role("alert")).to_contain_text("A volume needs a size.")
    dialog.get_by_label("Size").fill("10 GiB")
    answer(page, "Attach")
    expect(card).to_contain_text(re.compile(r"vdb\s*being attached\s*10 GiB"))
    expect(card).to_contain_text(re.compile(r"vdb\s*deleted with the VM\s*10 GiB"))
    page.get_by_label("Attach a volume").click()
    dialog.get_by_label("Volume", exact=True).click()
    expect(page.get_by_role("option")).to_have_count(2)  # the one on another host cannot be had here
    page.get_by_role("option", name=re.compile("ledger-vdb-91c0")).click()
    expect(dialog.get_by_label("Size")).to_be_hidden()
    answer(page, "Attach")
    expect(card).to_contain_text(re.compile(r"vdc\s*kept\s*100 GiB"))

    page.get_by_label("Detach vdc").click()
    expect(dialog).to_contain_text("It stays on kvm2 as ledger-vdb-91c0 and can be attached again.")
    answer(page, "Detach")
    expect(card).not_to_contain_text("vdc")
    page.get_by_label("Detach vdb").click()
    expect(dialog.get_by_text("gone for good")).to_be_hidden()
    dialog.get_by_text("Delete the volume and its data").click()
    expect(dialog.get_by_text("This deletes its data permanently.")).to_be_visible()
    expect(dialog.get_by_text("It stays on")).to_be_hidden()
    answer(page, "Delete")
    expect(card).to_contain_text("None. A volume is an extra disk.")
    page.goto(f"{site.url}/volumes")
    expect(page.get_by_role("row").filter(has_text="ledger-vdb-91c0")).to_contain_text("–")
    expect(page.get_by_role("row").filter(has_text="batch-old-vdb")).to_have_count(0)


def test_vm_page_explains_why_volumes_cannot_be_detached(sign_in: SignIn, site: Site) -> None:
    site.arrange("busy")
    page = sign_in("olga", "/vms/web1", "web1")
    card = page.get_by_role("region", name="Volumes")
    expect(card).to_contain_text("Stop the VM to attach or detach volumes.")
    for label in ("Attach a volume", "Detach vdb"):
        expect(page.get_by_label(label)).to_be_disabled()
    page.goto(f"{site.url}/vms/batch-old")
    expect(card).not_to_contain_text("while the VM is stopped")
    page.get_by_role("tab", name="Snapshots").click()
    page.get_by_role("button", name="Take snapshot").click()
    page.get_by_role("dialog").get_by_label("Name").fill("before")
    answer(page, "Take")
    page.get_by_role("tab", name="Overview").click()
    page.get_by_label("Attach a volume").click()
    page.get_by_role("dialog").get_by_label("Size").fill("1 GiB")
    answer(page, "Attach")
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("Delete its snapshots first")


def test_a_viewer_sees_volumes_and_no_buttons(sign_in: SignIn, site: Site) -> None:
    site.arrange("busy")
    page = sign_in("victor", "/vms/web1", "web1")
    expect(page.get_by_role("region", name="Volumes")).to_contain_text("vdb")
    for label in ("Attach a volume", "Detach vdb"):
        expect(page.get_by_label(label)).to_have_count(0)


def test_volumes_page_lists_and_deletes_kept_volumes(sign_in: SignIn, site: Site) -> None:
    site.arrange("busy")
    page = sign_in("olga", "/volumes", "Volumes")
    volume = page.get_by_role("row").filter(has_text="ledger-vdb-91c0")
    expect(volume).to_contain_text("100 GiB")
    page.get_by_label("Remove ledger-vdb-91c0").click()
    answer(page, "Remove")
    expect(volume).to_have_count(0)


def add_by_url(page: Page, name: str, url: str, checksum: str = "0" * 64) -> None:
    page.get_by_role("button", name="Add image").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="URL").click()
    dialog.get_by_label("Name").fill(name)
    dialog.get_by_label("URL", exact=True).fill(url)
    dialog.get_by_label("SHA-256").fill(checksum)
    answer(page, "Add")


def test_image_download_shows_progress_and_failure_reason(sign_in: SignIn, site: Site) -> None:
    page = sign_in("olga", "/images", "Images")
    add_by_url(page, "alpine", "https://images.test/alpine/image.json", "")
    expect(page.get_by_role("alert")).to_contain_text("needs the SHA-256 of its image.json")
    page.keyboard.press("Escape")
    add_by_url(page, "alpine", "https://images.test/alpine/image.json")
    add_by_url(page, "bad", "https://images.test/broken/image.json")
    good, bad = page.get_by_role("row").filter(has_text="alpine"), page.get_by_role("row").filter(has_text="bad")
    expect(good).to_contain_text("downloading")
    expect(good).to_contain_text("24 MiB of 48 MiB")
    expect(page.get_by_role("progressbar", name="Download of alpine")).to_have_attribute("aria-valuenow", "50")
    site.arrange("go-on")
    expect(good).to_contain_text("ready")
    expect(bad).to_contain_text("kernel does not have the sha256")
    expect(page.get_by_role("progressbar")).to_have_count(0)


def test_a_host_is_drained(sign_in: SignIn, site: Site) -> None:
    site.arrange("busy")
    page = sign_in("olga", "/hosts", "Hosts")
    card = page.get_by_label("Host kvm2", exact=True)
    card.get_by_role("button", name="Drain").click()
    expect(page.get_by_role("dialog")).to_contain_text("its 3 VMs shut down")
    answer(page, "Drain")
    expect(card.get_by_text("cordoned")).to_be_visible()
    card.get_by_role("link", name="Show its 3 VMs").click()
    expect(page.get_by_label("Search")).to_have_value("kvm2")
    expect(row(page, "web2")).to_contain_text("stopped")
    expect(row(page, "web1")).to_have_count(0)


def test_a_thousand_vms_are_paged_sorted_and_searched(sign_in: SignIn, site: Site) -> None:
    site.arrange("many", 1000)
    page = sign_in("olga", "/vms", "VMs")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(25)
    expect(page.get_by_role("main")).to_contain_text("1-25 of 1000")
    name = page.get_by_role("columnheader", name="Name")
    name.click()
    expect(name).to_have_class(re.compile(r"\bsorted\b"))  # a second click before that would ask for the same order again
    expect(rows.nth(1)).to_contain_text("vm-2")  # numbers as numbers: vm-2 comes before vm-10
    name.click()
    expect(rows.first).to_contain_text("vm-1000")
    page.get_by_label("Next page").click()
    expect(page.get_by_role("main")).to_contain_text("26-50 of 1000")
    expect(rows.first).to_contain_text("vm-975")
    page.get_by_label("Search").fill("vm-77 running")
    expect(rows).to_have_count(11)
    page.get_by_label("Search").fill("no such thing")
    expect(page.get_by_text("Nothing fits.")).to_be_visible()


@pytest.mark.parametrize(
    "path",
    ["/", "/vms", "/vms/web1", "/templates", "/images", "/volumes", "/hosts", "/events", "/api-reference", "/access", "/audit"],
)
def test_phone_layout_fits_the_screen_with_large_buttons(sign_in: SignIn, site: Site, path: str) -> None:
    site.arrange("busy")
    page = sign_in()
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(site.url + path)
    expect(page.get_by_role("main").locator("h1").first).to_be_visible()
    expect(page.get_by_label("Loading")).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    small = page.evaluate("""[...document.querySelectorAll('button, .q-btn')].filter(b => b.offsetParent)
        .map(b => [b.innerText || b.ariaLabel, b.getBoundingClientRect()]).filter(([, r]) => r.height < 32 || r.width < 32)
        .map(([name]) => name)""")
    assert small == []


def test_the_console_is_a_real_terminal(sign_in: SignIn, site: Site) -> None:
    site.arrange("busy")
    page = sign_in("olga", "/vms/web1", "web1")
    page.get_by_role("tab", name="Console").click()
    screen = page.locator(".xterm-rows")
    expect(screen).to_contain_text("web1 login:")
    page.keyboard.type("root\r")
    page.keyboard.type("uname -a\r")
    system = os.uname()
    expect(screen).to_contain_text(f"{system.sysname} {system.nodename} {system.release}")
    page.keyboard.type("stty size\r")
    expect(screen).to_contain_text(re.compile(r"stty size\s*\d+ 1[0-9][0-9]"))  # as wide as it is drawn: 1440 pixels
