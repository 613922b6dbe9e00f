"""Pulls of container images, and VMs of images that are not there yet."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Site

SignIn = Callable[..., Page]
SIZES = pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])


def begin(page: Page, reference: str, name: str = "") -> Locator:
    page.get_by_role("button", name="Pull image").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Container image", exact=True).fill(reference)
    dialog.get_by_label(re.compile("^Name")).fill(name)
    dialog.get_by_role("button", name="Pull", exact=True).click()
    return dialog


def looking(page: Page, width: int, scheme: str) -> Page:
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    return page


def fits(page: Page, width: int) -> bool:
    return int(page.evaluate("document.documentElement.scrollWidth")) <= width


@SIZES
def test_a_pull_shows_its_progress_and_the_time_left(sign_in: SignIn, site: Site, width: int, scheme: str) -> None:
    page = looking(sign_in("olga", "/images", "Images"), width, scheme)
    dialog = begin(page, "nginx:alpine", "Not A Name")
    expect(dialog.get_by_role("alert")).to_contain_text("Not A Name is no usable name")
    dialog.get_by_label(re.compile("^Name")).fill("")
    assert dialog.evaluate("element => element.scrollWidth <= element.clientWidth")
    dialog.get_by_role("button", name="Pull", exact=True).click()
    expect(dialog).to_have_count(0)
    main = page.get_by_role("main")
    expect(main).to_contain_text("nginx-alpine")
    expect(main).to_contain_text("24 MiB of 48 MiB")
    page.wait_for_timeout(4000)
    site.arrange("came", 36)
    expect(main).to_contain_text(re.compile(r"36 MiB of 48 MiB, \d+ s left"))
    assert fits(page, width)
    site.arrange("go-on")
    expect(page.get_by_role("progressbar")).to_have_count(0)
    expect(page.get_by_label("Remove nginx-alpine")).to_be_visible()


def test_a_pull_is_cancelled(sign_in: SignIn) -> None:
    page = sign_in("olga", "/images", "Images")
    begin(page, "nginx:alpine", "web")
    page.get_by_label("Cancel web").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel download").click()
    expect(page.get_by_role("table")).not_to_contain_text("web")


def test_refused_and_failed_pulls_say_why(sign_in: SignIn, site: Site) -> None:
    page = sign_in("olga", "/images", "Images")
    dialog = begin(page, "127.0.0.1:5000/app:1")
    expect(dialog.get_by_role("alert")).to_contain_text("Ask an administrator to pull it. (NQR-IMG-114)")
    dialog.get_by_role("switch", name="Accept plain HTTP").click()
    dialog.get_by_role("button", name="Pull", exact=True).click()
    expect(page.get_by_role("table")).to_contain_text("app-1")
    begin(page, "broken:1")
    site.arrange("go-on")
    expect(page.get_by_role("row").filter(has_text="broken-1")).to_contain_text("kernel does not have the sha256")


def test_a_viewer_pulls_nothing(sign_in: SignIn) -> None:
    page = sign_in("victor", "/images", "Images")
    expect(page.get_by_role("table")).to_contain_text("tiny")
    expect(page.get_by_role("button", name="Pull image")).to_have_count(0)


def new_vm(page: Page, name: str, reference: str) -> Locator:
    page.get_by_role("button", name="Create VM").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name", exact=True).fill(name)
    dialog.get_by_role("combobox", name="Image", exact=True).click()
    page.get_by_role("option", name="A container image").click()
    dialog.get_by_label("Container image", exact=True).fill(reference)
    dialog.get_by_role("button", name="Create", exact=True).click()
    return dialog


@SIZES
def test_a_vm_pulls_its_image_and_gets_its_user_data(sign_in: SignIn, site: Site, width: int, scheme: str) -> None:
    page = looking(sign_in("olga", "/vms", "VMs"), width, scheme)
    dialog = new_vm(page, "web9", "")
    expect(dialog.get_by_role("alert")).to_contain_text("Enter a container image")
    dialog.get_by_label("Container image", exact=True).fill("nginx:alpine")
    dialog.get_by_role("button", name=re.compile("User data")).first.click()
    dialog.get_by_label("User data", exact=True).fill("packages: [nginx]")
    dialog.get_by_role("button", name="Create", exact=True).click()
    expect(dialog.get_by_role("alert")).to_contain_text("begins with #cloud-config")
    assert dialog.evaluate("element => element.scrollWidth <= element.clientWidth")
    dialog.get_by_label("User data", exact=True).fill("#cloud-config\npackages: [nginx]\n")
    dialog.get_by_role("button", name="Create", exact=True).click()
    expect(dialog.get_by_role("status")).to_contain_text("nginx-alpine: 24 MiB of 48 MiB")
    site.arrange("go-on")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("main")).to_contain_text("web9")
    got = httpx.get(f"{site.manager}/test/user-data/web9", trust_env=False).json()
    assert got == "#cloud-config\npackages: [nginx]\n"
    page.goto(f"{site.url}/vms/web9")
    expect(page.get_by_role("main")).to_contain_text("nginx-alpine")
    assert "packages: [nginx]" not in page.content()


def test_a_vm_is_not_created_if_its_pull_fails(sign_in: SignIn, site: Site) -> None:
    page = sign_in("olga", "/vms", "VMs")
    dialog = new_vm(page, "web9", "broken:1")
    expect(dialog.get_by_role("status")).to_contain_text("24 MiB of 48 MiB")
    site.arrange("go-on")
    expect(dialog.get_by_role("alert")).to_contain_text("broken:1 was not pulled. kernel does not have the sha256")
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name="No VMs yet")).to_be_visible()


def test_a_vm_is_not_created_if_its_form_is_closed(sign_in: SignIn, site: Site) -> None:
    page = sign_in("olga", "/vms", "VMs")
    dialog = new_vm(page, "web9", "nginx:alpine")
    expect(dialog.get_by_role("status")).to_contain_text("24 MiB of 48 MiB")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    site.arrange("go-on")
    page.goto(f"{site.url}/images")
    expect(page.get_by_role("row").filter(has_text="nginx-alpine")).to_contain_text("ready")
    page.goto(f"{site.url}/vms")
    expect(page.get_by_role("heading", name="No VMs yet")).to_be_visible()
