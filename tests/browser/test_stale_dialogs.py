"""A dialog that stays open while somebody else puts another thing in the place of the one that it is about."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Site
from tests.browser.test_forms import answer
from tests.browser.test_vms import row

SignIn = Callable[..., Page]


@pytest.mark.parametrize("way", ["list", "page"])
def test_a_vm_that_was_made_again_is_not_deleted(sign_in: SignIn, site: Site, way: str) -> None:
    site.arrange("busy")
    page = sign_in("olga", *(("/vms", "VMs") if way == "list" else ("/vms/web1", "web1")))
    (row(page, "web1").get_by_label("Delete web1") if way == "list" else verb(page, "Delete")).click()
    expect(page.get_by_role("dialog")).to_contain_text("Delete web1?")
    site.arrange("another-vm", "web1")
    answer(page, "Delete")
    expect(page.get_by_text("There is no VM")).to_be_visible()
    page.goto(f"{site.url}/vms")
    expect(row(page, "web1")).to_contain_text("running")


def verb(page: Page, name: str) -> Locator:
    return page.get_by_role("main").get_by_role("button", name=name, exact=True)


def test_a_volume_that_has_the_letter_since_is_not_deleted(sign_in: SignIn, site: Site) -> None:
    site.arrange("busy")
    page = sign_in("olga", "/vms/batch-old", "batch-old")
    card, dialog = page.get_by_role("region", name="Volumes"), page.get_by_role("dialog")
    page.get_by_label("Attach a volume").click()
    dialog.get_by_label("Size").fill("10 GiB")
    answer(page, "Attach")
    expect(card).to_contain_text("deleted with the VM")
    page.get_by_label("Detach vdb").click()
    dialog.get_by_text("Delete the volume and its data").click()
    site.arrange("another-volume", "batch-old")
    answer(page, "Delete")
    expect(dialog.get_by_role("alert")).to_contain_text("is precious now, not batch-old-vdb")
    dialog.get_by_role("button", name="Cancel").click()
    expect(card).to_contain_text("deleted with the VM")


@pytest.mark.parametrize("action", ["Delete", "Restore"])
def test_a_snapshot_of_the_same_name_is_left_alone(sign_in: SignIn, site: Site, action: str) -> None:
    site.arrange("busy")
    page = sign_in("olga", "/vms/batch-old", "batch-old")
    page.get_by_role("tab", name="Snapshots").click()
    page.get_by_role("button", name="Take snapshot").click()
    page.get_by_role("dialog").get_by_label("Name").fill("daily")
    answer(page, "Take")
    daily = page.get_by_role("row").filter(has_text="daily")
    expect(daily).to_contain_text("ready")
    page.get_by_label(f"{action} daily").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    site.arrange("another-snapshot", "batch-old")
    answer(page, action)
    expect(page.get_by_text("daily changed while the dialog was open.")).to_be_visible()
    expect(daily).to_contain_text("ready")
