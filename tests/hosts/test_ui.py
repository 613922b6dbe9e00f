"""Chromium drives the web UI of a real installation from outside the host, through a user's first day."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

pytest.importorskip("playwright", reason="Playwright for Python is not installed")
from playwright.sync_api import Locator, Page, expect, sync_playwright

from tests.browser.conftest import CHROMIUM, FLAGS
from tests.hosts import product
from tests.hosts.machine import Machine

pytestmark = [
    pytest.mark.matrix,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]
BOOT = 240_000  # milliseconds: the guest boots under emulation, on a machine with other things to do


def test_the_first_day_in_the_browser(debian12: Machine) -> None:
    host = debian12
    product.clone(host)
    product.bootstrap(host, "--non-interactive")
    name = host.run(["hostname"]).stdout.strip()
    with visitor(f"https://{host.address}:3000") as page:
        sign_in(page, host.read("/etc/nqrust-microvm/admin-password").strip())
        create(page, "web1")
        vm = product.document(host, "vm", "show", "web1")
        console(page, "web1", vm["ip"])
        snapshot_of_a_stopped_vm(page, "web1")
        delete(page, "web1")
        assert product.document(host, "vm", "ls") in ([], {"items": [], "total": 0})
        assert not product.vm_processes(host, vm["id"])
        add_images(page, host)
        cordon(page, host, name)


@contextmanager
def visitor(url: str) -> Iterator[Page]:
    """A browser at `url`; an error in its console or a request to anybody else fails the test."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        context = browser.new_context(viewport={"width": 1440, "height": 900}, base_url=url, ignore_https_errors=True)
        page = context.new_page()
        page.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        wrong: list[str] = []
        page.on("console", lambda m: wrong.append(m.text) if m.type == "error" and "NETWORK_CHANGED" not in m.text else None)
        page.on(
            "request",
            lambda r: wrong.append(r.url) if not r.url.startswith((url, url.replace("http", "ws"), "data:", "blob:")) else None,
        )
        try:
            yield page
        finally:
            browser.close()
        assert wrong == []


def row(page: Page, name: str) -> Locator:
    return page.get_by_role("row").filter(has_text=name)


def answer(page: Page, verb: str) -> None:
    page.get_by_role("dialog").get_by_role("button", name=verb, exact=True).click()


def sign_in(page: Page, password: str) -> None:
    page.goto("/vms")
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password", exact=True).fill("not " + password)
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Wrong user name or password.")
    page.get_by_label("Password", exact=True).fill(password)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="No VMs yet")).to_be_visible()


def create(page: Page, name: str) -> None:
    page.get_by_role("button", name="Create VM").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill(name)
    dialog.get_by_text("Port forwards").click()
    dialog.get_by_role("button", name="Add port forward").click()
    dialog.get_by_label("Host port").fill("9001")
    dialog.get_by_label("VM port").fill("9000")
    dialog.get_by_role("button", name="Create", exact=True).click()
    expect(row(page, name)).to_contain_text("running", timeout=BOOT)
    page.get_by_role("link", name=name, exact=True).click()
    expect(page.get_by_role("main")).to_contain_text(re.compile(r"Guest agent\s*up "), timeout=BOOT)
    expect(page.get_by_role("region", name="Port forwards")).to_contain_text("9000/tcp")
    expect(page.get_by_role("img", name="Memory and disk").locator("svg")).to_be_visible()


def console(page: Page, name: str, address: str) -> None:
    """Sign in to the guest on its serial line, ask what it is, read the answer."""
    page.get_by_role("tab", name="Console").click()
    expect(page.get_by_text("Connected", exact=True)).to_be_visible()
    screen = page.locator(".xterm-rows")
    page.keyboard.press("Enter")
    expect(screen).to_contain_text(f"{name} login:")
    page.keyboard.type("root\r")
    expect(screen).to_contain_text("#")
    page.keyboard.type("uname -a\r")
    expect(screen).to_contain_text(re.compile(rf"Linux {name} \d+\.\d+.*x86_64"))
    page.keyboard.type("ip address show dev eth0\r")
    expect(screen).to_contain_text(address)
    page.keyboard.press("Control+]")


def snapshot_of_a_stopped_vm(page: Page, name: str) -> None:
    page.get_by_role("button", name="Stop", exact=True).click()
    answer(page, "Stop")
    badge = page.locator(".head .badge")
    expect(badge).to_have_text("stopped", timeout=BOOT)
    page.get_by_role("tab", name="Snapshots").click()
    page.get_by_role("button", name="Take snapshot").click()
    answer(page, "Take")
    expect(row(page, "snapshot-1")).to_contain_text("ready", timeout=BOOT)
    page.get_by_label("Restore snapshot-1").click()
    answer(page, "Restore")
    page.get_by_role("tab", name="Events").click()
    expect(page.get_by_role("main")).to_contain_text(f"VM {name} was restored from snapshot snapshot-1.", timeout=BOOT)


def delete(page: Page, name: str) -> None:
    page.get_by_role("button", name="Delete", exact=True).click()
    answer(page, "Cancel")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("button", name="Delete", exact=True).click()
    answer(page, "Delete")
    expect(page).to_have_url(re.compile("/vms$"))
    expect(page.get_by_role("heading", name="No VMs yet")).to_be_visible(timeout=BOOT)


def add_images(page: Page, host: Machine) -> None:
    """A copy by its folder, another from a server on the host, and a third that is refused for its checksum."""
    host.run(
        'cp -a /srv/images/tiny /srv/images/copy && sed -i \'s/"name": *"tiny"/"name": "copy"/\' /srv/images/copy/image.json'
        " && chown -R nqrust /srv/images/copy"
    )
    page.get_by_role("link", name="Images").click()
    page.get_by_role("button", name="Add image").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("copy")
    dialog.get_by_label("Folder").last.fill("/srv/images/copy")
    answer(page, "Add")
    expect(row(page, "copy")).to_contain_text("ready")

    host.run("systemd-run --unit=image-server --working-directory=/srv/images python3 -m http.server 8099 --bind 127.0.0.1")
    manifest = host.read("/srv/images/tiny/image.json")
    assert json.loads(manifest)["name"] == "tiny"
    for name, checksum, said in (
        ("fetched", hashlib.sha256(manifest.encode()).hexdigest(), "is being fetched"),
        ("forged", "0" * 64, ""),
    ):
        page.get_by_role("button", name="Add image").click()
        dialog.get_by_role("button", name="URL").click()
        dialog.get_by_label("Name").fill(name)
        dialog.get_by_label("URL", exact=True).fill("http://127.0.0.1:8099/tiny/image.json")
        dialog.get_by_label("SHA-256").fill(checksum)
        answer(page, "Add")
        if said:
            expect(row(page, name)).to_contain_text("ready", timeout=BOOT)
        else:
            expect(dialog.get_by_role("alert")).to_contain_text("does not match the given sha256")
            answer(page, "Cancel")
    host.run("systemctl stop image-server")


def cordon(page: Page, host: Machine, name: str) -> None:
    page.get_by_role("link", name="Hosts").click()
    card = page.get_by_label(f"Host {name}", exact=True)
    expect(card).to_contain_text("emulation (TCG)")
    card.get_by_role("button", name="Cordon", exact=True).click()
    answer(page, "Cordon")
    expect(card.get_by_text("cordoned")).to_be_visible()
    found = product.document(host, "host", "ls")
    assert [one["cordoned"] for one in (found if isinstance(found, list) else found["items"])] == [True]
    card.get_by_role("button", name="Uncordon").click()
    expect(card.get_by_text("cordoned")).to_be_hidden()
