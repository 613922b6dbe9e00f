"""Overview, images, hosts, users, tokens and audit, and the pages while the manager is away."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest
from playwright.sync_api import Page, expect

from nqrust.ui import format as fmt
from tests.browser.conftest import Site

SignIn = Callable[..., Page]


def test_overview_counts_and_warns(sign_in: SignIn, site: Site) -> None:
    site.arrange("busy")
    page = sign_in("victor")
    main = page.get_by_role("main")
    expect(main).to_contain_text("4 of 8 running")
    expect(main).to_contain_text("2 of 3 online")
    expect(main).to_contain_text("VM broken failed: The guest's kernel panicked")
    expect(main).to_contain_text("VMs on lab run under emulation")
    expect(main).to_contain_text("build-7 was created on")


def test_an_unknown_address_leads_back_to_the_overview(sign_in: SignIn, site: Site) -> None:
    answer = site.get("/nothing/here")
    assert answer.status_code == 404 and "HTTPException" not in answer.text
    page = sign_in()
    page.context.new_page().goto(site.url + "/nothing/here")  # the browser logs its status as an error
    other = page.context.pages[-1]
    expect(other.get_by_role("heading", name="Page not found")).to_be_visible()
    other.get_by_role("link", name="Go to the overview").click()
    expect(other.get_by_role("main").locator("h1").first).to_have_text("Overview")


@pytest.mark.parametrize(("width", "told"), [(360, "on kvm1 · not attached"), (1280, "–")])
def test_a_kept_volume_without_a_vm_says_so(sign_in: SignIn, site: Site, width: int, told: str) -> None:
    site.arrange("busy")
    page = sign_in(path="/volumes", title="Volumes")
    page.set_viewport_size({"width": width, "height": 800})
    expect(page.get_by_text(told, exact=True).first).to_be_visible()


def test_images_are_added_scanned_and_removed(sign_in: SignIn) -> None:
    page = sign_in("olga", "/images", "Images")
    table = page.get_by_role("table")
    expect(table).to_contain_text("tiny")
    page.get_by_role("button", name="Add image").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("alpine")
    dialog.get_by_label("Folder").last.fill("/etc")
    dialog.get_by_role("button", name="Add", exact=True).click()
    expect(dialog.get_by_role("alert")).to_contain_text("Move it below /srv/images.")
    dialog.get_by_label("Folder").last.fill("/srv/images/alpine")
    dialog.get_by_role("button", name="Add", exact=True).click()
    expect(table).to_contain_text("alpine")
    page.get_by_role("button", name="Scan").click()
    expect(table).to_contain_text("debian-12")
    page.get_by_label("Remove alpine").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(table).not_to_contain_text("alpine")


def test_the_catalogue_of_cloud_images_has_the_commands_that_import_them(sign_in: SignIn) -> None:
    page = sign_in("victor", "/images", "Images")
    page.get_by_role("button", name="Cloud images").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Debian 13 (trixie)")
    expect(dialog).to_contain_text("sudo nqr image pull debian:13")
    expect(dialog).to_contain_text("as root")
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_be_hidden()


def test_a_host_is_cordoned_and_uncordoned(sign_in: SignIn) -> None:
    page = sign_in("olga", "/hosts", "Hosts")
    card = page.get_by_label("Host kvm1", exact=True)
    expect(card).to_contain_text("24 GiB of 64 GiB")
    expect(card.get_by_text("cordoned")).to_be_hidden()
    card.get_by_role("button", name="Cordon", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Cordon").click()
    expect(card.get_by_text("cordoned")).to_be_visible()
    card.get_by_role("button", name="Uncordon").click()
    expect(card.get_by_text("cordoned")).to_be_hidden()


def test_a_join_token_is_shown_with_what_to_do(sign_in: SignIn) -> None:
    page = sign_in("olga", "/hosts", "Hosts")
    page.get_by_role("button", name="Add host").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name of the host").fill("kvm1")
    dialog.get_by_role("button", name="Create token").click()
    expect(dialog.get_by_role("alert")).to_contain_text("already a host named kvm1")
    dialog.get_by_role("checkbox", name="Replace an existing host of that name").click()
    dialog.get_by_role("button", name="Create token").click()
    expect(dialog).to_contain_text("nqr_join_")
    expect(dialog).to_contain_text("nqr install --mode agent --manager-url")
    expect(dialog).to_contain_text("--agent-name kvm1")


def test_administrator_creates_and_deletes_users_and_tokens(sign_in: SignIn) -> None:
    page = sign_in("admin", "/access", "Users")
    page.get_by_role("button", name="Add user").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("User name").fill("nina")
    dialog.get_by_label("Password", exact=True).fill("short")
    dialog.get_by_role("button", name="Add", exact=True).click()
    expect(dialog.get_by_role("alert")).to_contain_text("at least 12 characters")
    dialog.get_by_label("Password", exact=True).fill("long enough now")
    dialog.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("row").filter(has_text="nina")).to_contain_text("viewer")
    page.get_by_role("button", name="Create token").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Description").fill("monitoring")
    dialog.get_by_role("button", name="Create", exact=True).click()
    expect(dialog).to_contain_text("nqr_")
    dialog.get_by_role("button", name="Done").click()
    row = page.get_by_role("row").filter(has_text="monitoring")
    expect(row).to_contain_text("admin")
    in_90_days = datetime.now(timezone.utc) + timedelta(days=90)
    expect(row).to_contain_text(fmt.clock(in_90_days)[:10])
    page.get_by_role("button", name="Create token").click()
    dialog.get_by_label("Description").fill("forever")
    dialog.get_by_label("Expires after").click()
    page.get_by_role("option", name="never").click()
    dialog.get_by_role("button", name="Create", exact=True).click()
    dialog.get_by_role("button", name="Done").click()
    expect(page.get_by_role("row").filter(has_text="forever")).to_contain_text("never")
    page.goto(page.url.replace("/access", "/audit"))
    expect(page.get_by_role("table")).to_contain_text("POST /v1/tokens")


@pytest.mark.parametrize(
    ("path", "title", "empty"),
    [
        ("/vms", "VMs", "No VMs yet"),
        ("/images", "Images", "No images yet"),
        ("/hosts", "Hosts", "No hosts yet"),
        ("/templates", "Templates", "No templates"),
        ("/volumes", "Volumes", "No kept volumes"),
        ("/events", "Events", "No events yet"),
        ("/audit", "Audit", "Nothing yet"),
    ],
)
def test_every_list_has_a_loading_an_empty_and_an_error_view(
    sign_in: SignIn, site: Site, path: str, title: str, empty: str
) -> None:
    site.arrange("empty")
    site.arrange("delay", 2.0)
    page = sign_in("admin", path, title)
    expect(page.get_by_label("Loading")).to_be_visible()
    expect(page.get_by_role("heading", name=empty)).to_be_visible()
    site.arrange("delay", 0)
    site.arrange("down", True)
    alert = page.get_by_role("alert").filter(has_text="The database is away.")
    expect(alert).to_contain_text("This page shows earlier data.")
    page.reload()
    expect(alert).to_be_visible()
    expect(alert).not_to_contain_text("from before")
    site.arrange("down", False)
    alert.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("heading", name=empty)).to_be_visible()
    expect(alert).to_be_hidden()


def test_a_vm_without_a_record_is_shown_adopted_or_deleted(sign_in: SignIn, site: Site) -> None:
    site.arrange("lost", "lost1")
    site.arrange("lost", "lost2")
    page = sign_in("olga", "/hosts", "Hosts")
    card = page.get_by_label("Host kvm1", exact=True)
    expect(card).to_contain_text("2 VMs without a record here")
    expect(card).to_contain_text("lost1 (running, 10.0.0.77)")
    card.get_by_role("button", name="Adopt").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("Not A Name")
    dialog.get_by_role("button", name="Adopt VM").click()
    expect(dialog).to_contain_text("Lower-case letters, digits and dashes")
    dialog.get_by_label("Name").fill("web9")
    dialog.get_by_role("button", name="Adopt VM").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(card).to_contain_text("1 VM without a record here")
    card.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(card).not_to_contain_text("without a record")
    page.goto(f"{site.url}/vms")
    expect(page.get_by_role("table")).to_contain_text("web9")


def test_a_viewer_sees_a_vm_without_a_record_and_cannot_touch_it(sign_in: SignIn, site: Site) -> None:
    site.arrange("lost", "lost1")
    page = sign_in("victor", "/hosts", "Hosts")
    card = page.get_by_label("Host kvm1", exact=True)
    expect(card).to_contain_text("lost1 (running, 10.0.0.77)")
    expect(card.get_by_role("button", name="Adopt")).to_have_count(0)


def test_signed_in_user_opens_the_api_reference(sign_in: SignIn) -> None:
    """The page requests nothing from another server; otherwise the fixture `page` fails the test."""
    page = sign_in("victor")
    page.get_by_role("link", name="API reference").click()
    main = page.get_by_role("main")
    expect(main.locator("h1")).to_have_text("API reference")
    route = main.locator("details").filter(has_text="/v1/vms/adopt")
    expect(route.locator("summary")).to_contain_text("POST")
    expect(route.locator("pre").first).to_be_hidden()
    route.locator("summary").click()
    expect(route.locator("pre").first).to_contain_text('"id": "string"')
