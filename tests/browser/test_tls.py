"""The web UI over TLS, on the same port as plain HTTP. 127.0.0.1 is this machine; the certificate's file comes from the manager."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from nqrust.tls import authority, contexts
from nqrust.tls.authority import Authority, Pair
from tests.browser.conftest import PASSWORD, Site


@pytest.fixture
def pair(site: Site) -> Pair:
    """The authority whose certificate the UI presents."""
    made = authority.new_authority("browser tests")
    leaf = Authority(made).issue(["localhost", "127.0.0.1"])
    fresh = Path(site.certificate).with_suffix(".new")
    fresh.write_text(leaf.key + leaf.certificate)
    fresh.rename(site.certificate)
    return made


def test_same_port_speaks_tls_with_the_managers_certificate(site: Site, pair: Pair) -> None:
    secure = site.url.replace("http://", "https://")
    with httpx.Client(verify=contexts.client(pair.certificate), trust_env=False) as client:
        assert client.get(f"{secure}/health").json() == {"status": "ok"}
        page = client.get(f"{secure}/sign-in")
    assert page.headers["strict-transport-security"] == "max-age=31536000"
    assert "; Secure" in page.headers["set-cookie"]
    plain = httpx.get(f"{site.url}/sign-in".replace("https://", "http://"), trust_env=False)
    assert "strict-transport-security" not in plain.headers and "secure" not in plain.headers["set-cookie"].lower()


def test_renewed_certificate_is_presented_without_a_restart(site: Site, pair: Pair) -> None:
    secure = site.url.replace("http://", "https://")
    other = authority.new_authority("another")
    leaf = Authority(other).issue(["127.0.0.1"])
    fresh = Path(site.certificate).with_suffix(".new")
    fresh.write_text(leaf.key + leaf.certificate)
    fresh.rename(site.certificate)
    assert httpx.get(f"{secure}/health", verify=contexts.client(other.certificate), trust_env=False).status_code == 200
    Path(site.certificate).write_text("damaged")
    assert httpx.get(f"{secure}/health", verify=contexts.client(other.certificate), trust_env=False).status_code == 200
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        httpx.get(f"{secure}/health", verify=contexts.client(pair.certificate), trust_env=False)


def test_people_sign_in_and_see_live_pages_over_tls(browser: Browser, site: Site, pair: Pair) -> None:
    site.arrange("busy")
    secure = site.url.replace("http://", "https://")
    context = browser.new_context(ignore_https_errors=True)
    page = context.new_page()
    page.goto(f"{secure}/sign-in")
    page.get_by_label("User name").fill("olga")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{secure}/")
    page.goto(f"{secure}/vms")
    expect(page.get_by_role("link", name="web1")).to_be_visible()
    (cookie,) = [one for one in context.cookies() if one["name"] == "session"]
    assert cookie["secure"] and cookie["httpOnly"]
    context.close()
