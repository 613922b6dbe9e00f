"""Signing in: the permitted users, their pages, and the place of their token."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest
from playwright.sync_api import Page, WebSocketRoute, expect

from tests.browser.conftest import Site
from tests.browser.test_forms import account
from tests.browser.world import PASSWORD

SignIn = Callable[..., Page]


def test_health_needs_no_sign_in_and_pages_do(site: Site) -> None:
    answer = site.get("/health")
    assert answer.json() == {"status": "ok"}
    assert "set-cookie" not in answer.headers and answer.headers["x-frame-options"] == "DENY"
    for path in ("/", "/vms", "/vms/web1", "/images", "/hosts", "/events", "/api-reference", "/access", "/audit"):
        answer = site.get(path)
        assert answer.status_code == 303 and answer.headers["location"] == f"/sign-in?to={path}"


def test_a_wrong_password_says_so_and_the_right_one_leads_on(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/images")
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password", exact=True).fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Wrong user name or password.")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{site.url}/images")
    expect(page.get_by_role("heading", name="Images")).to_be_visible()


def test_what_was_typed_before_the_page_had_its_connection_counts(page: Page, site: Site) -> None:
    waiting: list[WebSocketRoute] = []
    page.route_web_socket(re.compile("_nicegui_ws"), lambda socket: waiting.append(socket))
    for _ in range(5):  # the order of three timers decides without the mend, and one time in two it is right
        page.goto(f"{site.url}/sign-in")
        page.get_by_label("User name").fill("admin")
        page.get_by_label("Password", exact=True).fill("wrong")
        page.keyboard.press("Enter")
        waiting.pop().connect_to_server()
        expect(page.get_by_role("alert")).to_contain_text("Wrong user name or password.")


def test_empty_sign_in_form_asks_for_name_and_password(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/sign-in")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("Enter a user name and a password.")


def test_sign_in_never_redirects_to_another_site(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/sign-in?to=//example.com/x")
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{site.url}/")


def test_the_token_stays_on_the_server(sign_in: SignIn, site: Site) -> None:
    page = sign_in()
    seen = (
        page.content() + str(page.context.cookies()) + str(page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})"))
    )
    assert "nqr_" not in seen and "nqr_" not in page.url
    (cookie,) = [cookie for cookie in page.context.cookies() if cookie["name"] == "session"]
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"
    kept = list((site.log.parent / "sessions").iterdir())
    assert (site.log.parent / "sessions").stat().st_mode & 0o077 == 0
    assert kept and all(Path(file).stat().st_mode & 0o077 == 0 for file in kept)


def test_session_works_only_in_the_browser_that_signed_in(sign_in: SignIn, site: Site) -> None:
    """A guest behind a forwarded port of this host receives the cookie too, and can set one."""
    page = sign_in()
    (cookie,) = [str(cookie["value"]) for cookie in page.context.cookies() if cookie["name"] == "session"]
    own = {"User-Agent": page.evaluate("navigator.userAgent"), "Cookie": f"session={cookie}"}

    def ask(path: str, **other: str) -> httpx.Response:
        return site.get(path, headers={**own, **other})

    assert ask("/vms").status_code == 200
    assert ask("/sign-in").headers["location"] == "/"
    for other in ({"User-Agent": "another"}, {"X-Forwarded-For": "192.0.2.7"}):
        replayed = ask("/vms", **other)
        assert (replayed.status_code, replayed.headers["location"]) == (303, "/sign-in?to=/vms")
        fixed = ask("/sign-in", **other)
        assert fixed.status_code == 200 and ident(fixed.cookies["session"]) != ident(cookie)
    page.goto(f"{site.url}/vms")
    expect(page).to_have_url(f"{site.url}/vms")


def test_signing_in_makes_a_new_session(page: Page, site: Site) -> None:
    given = site.get("/sign-in").cookies["session"]
    page.context.add_cookies([{"name": "session", "value": given, "url": site.url}])
    page.goto(f"{site.url}/sign-in")
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{site.url}/")
    agent = {"User-Agent": page.evaluate("navigator.userAgent"), "Cookie": f"session={given}"}
    assert site.get("/vms", headers=agent).status_code == 303


def ident(cookie: str) -> str:
    """Return the session's id in a signed cookie."""
    return str(json.loads(base64.b64decode(cookie.strip('"').split(".")[0]))["id"])


def test_sign_out_ends_the_session(sign_in: SignIn, site: Site) -> None:
    page = sign_in()
    account(page, "Sign out")
    expect(page).to_have_url(f"{site.url}/sign-in")
    page.goto(f"{site.url}/vms")
    expect(page).to_have_url(re.compile("/sign-in"))


def test_ended_session_returns_to_sign_in(sign_in: SignIn, site: Site) -> None:
    page = sign_in()
    site.arrange("sign-everybody-out")
    expect(page).to_have_url(f"{site.url}/sign-in")


@pytest.mark.parametrize("name", ["olga", "victor"])
def test_each_role_sees_only_its_permitted_pages(sign_in: SignIn, site: Site, name: str) -> None:
    page = sign_in(name)
    expect(page.get_by_role("link", name="VMs", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="Audit")).to_have_count(0)
    page.goto(f"{site.url}/audit")
    expect(page).to_have_url(f"{site.url}/")
    page.goto(f"{site.url}/vms")
    expect(page.get_by_role("heading", name="No VMs yet")).to_be_visible()
    expect(page.get_by_role("button", name="Create VM")).to_have_count(2 if name == "olga" else 0)


def test_colour_theme_is_remembered(sign_in: SignIn, site: Site) -> None:
    page = sign_in()
    expect(page.locator("body.body--light")).to_have_count(1)
    page.get_by_label("Light or dark").click()
    expect(page.locator("body.body--dark")).to_have_count(1)
    page.goto(f"{site.url}/hosts")
    expect(page.locator("body.body--dark")).to_have_count(1)


def test_ui_memory_stays_below_its_limit(sign_in: SignIn, site: Site) -> None:
    sign_in()
    assert psutil.Process(site.process).memory_info().rss < 200 << 20
