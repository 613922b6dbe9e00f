"""The web UI with a manager in memory, in the system's Chromium. With NQR_TEST_TLS=1, the browser reaches it over TLS."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("playwright", reason="Playwright for Python is not installed")
from playwright.sync_api import Browser, Page, expect, sync_playwright

from nqrust.tls import authority
from nqrust.tls.authority import Authority
from tests.browser.world import PASSWORD

_HERE = Path(__file__).parent
ROOT = _HERE.parents[1]
CHROMIUM = next((path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
OVER_TLS = bool(os.environ.get("NQR_TEST_TLS"))
if OVER_TLS:
    FLAGS.append("--ignore-certificate-errors")  # the authority is the test's own
expect.set_options(timeout=45_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if CHROMIUM is None:
                item.add_marker(pytest.mark.skip(reason="Chromium is not installed"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(240):
        if process.poll() is not None:
            raise RuntimeError(f"{url} ended with {process.returncode}")
        try:
            if httpx.get(url, timeout=2, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.25)
    raise RuntimeError(f"{url} did not come up")


@dataclass(frozen=True)
class Site:
    """`url`: of the UI; `process`: its process id; `log`: its output; `certificate`: the file for TLS. `arrange` changes the
    manager's world."""

    url: str
    process: int
    log: Path
    manager: str
    certificate: str

    def get(self, path: str, **more: Any) -> httpx.Response:
        return httpx.get(self.url + path, trust_env=False, verify=False, **more)

    def arrange(self, what: str, value: Any = None) -> None:
        httpx.post(f"{self.manager}/test/{what}", json={"value": value}, trust_env=False).raise_for_status()


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("ui")
    manager_port, ui_port = _free_port(), _free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "UI_BIND": f"127.0.0.1:{ui_port}",
        "PORT": "1",
        "HOSTNAME": "elsewhere",
        "MANAGER_BASE": f"http://127.0.0.1:{manager_port}",
        "UI_STORAGE_SECRET": "s" * 32,
        "UI_CERT_FILE": str(folder / "ui.pem"),
    }
    scheme = "http"
    if OVER_TLS:
        scheme = "https"
        pair = Authority(authority.new_authority("browser tests")).issue(["localhost", "127.0.0.1"])
        Path(environment["UI_CERT_FILE"]).write_text(pair.key + pair.certificate)
    with (folder / "log").open("wb") as log:
        manager = subprocess.Popen(
            [sys.executable, "-m", "tests.browser.fake_manager", str(manager_port)], cwd=ROOT, stdout=log, stderr=log
        )
        ui = subprocess.Popen([sys.executable, "-m", "nqrust.ui"], cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            _wait(f"http://127.0.0.1:{manager_port}/health", manager)
            _wait(f"http://127.0.0.1:{ui_port}/health", ui)
            yield Site(
                f"{scheme}://127.0.0.1:{ui_port}",
                ui.pid,
                folder / "log",
                f"http://127.0.0.1:{manager_port}",
                environment["UI_CERT_FILE"],
            )
        finally:
            for process in (ui, manager):
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()


@pytest.fixture
def site(running: Site) -> Site:
    """A fresh world: one host, one image, no VMs."""
    running.arrange("reset")
    return running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """A new visitor. The test fails if the page requests anything from another server or logs an error in its console."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    wrong: list[str] = []
    page.on(
        "request",
        lambda r: (
            wrong.append(f"asked {r.url}")
            if not r.url.startswith((site.url, site.url.replace("http", "ws"), "data:", "blob:"))
            else None
        ),
    )
    # Other tests make and remove network interfaces, which Chromium notices by asking again.
    page.on(
        "console", lambda m: wrong.append(f"said {m.text}") if m.type == "error" and "ERR_NETWORK_CHANGED" not in m.text else None
    )
    page.on("pageerror", lambda e: wrong.append(f"raised {e}"))
    yield page
    context.close()
    assert wrong == []


@pytest.fixture
def sign_in(page: Page, site: Site) -> Callable[..., Page]:
    def do(name: str = "admin", path: str = "/", title: str = "Overview") -> Page:
        page.goto(site.url + path)
        page.get_by_label("User name").fill(name)
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.keyboard.press("Enter")
        expect(page.get_by_role("main").locator("h1").first).to_have_text(title)
        return page

    return do
