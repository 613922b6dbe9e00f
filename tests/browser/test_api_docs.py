"""The manager's own /docs in a real browser: it asks for credentials, and shows the API to permitted users."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, expect

from nqrust.contract.credentials import hash_password, hash_token
from tests.live.manager.conftest import cluster, make_image, migrated  # noqa: F401 - fixtures

PASSWORD, TOKEN = "a long password", "nqr_" + "d" * 43


@pytest.fixture(scope="module")
def manager(cluster: Any, migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:  # noqa: F811
    """Base URL of a running manager, as installed."""
    folder: Path = tmp_path_factory.mktemp("manager")
    make_image(str(folder / "images"))
    bootstrap = {
        "admin_password_hash": hash_password(PASSWORD),
        "tokens": [{"name": "reader", "sha256": hash_token(TOKEN), "role": "viewer"}],
    }
    (folder / "bootstrap.json").write_text(json.dumps(bootstrap))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        "PATH": "/usr/bin:/bin",
        "DATABASE_URL": cluster.fresh(migrated),
        "MANAGER_BIND": f"127.0.0.1:{port}",
        "MANAGER_IMAGE_ROOT": str(folder / "images"),
        "MANAGER_BOOTSTRAP_FILE": str(folder / "bootstrap.json"),
    }
    url = f"http://127.0.0.1:{port}"
    with open(folder / "log", "w") as log:
        process = subprocess.Popen([sys.executable, "-m", "nqrust.manager"], stderr=log, env=environment)
    try:
        for _ in range(300):
            assert process.poll() is None, (folder / "log").read_text()
            try:
                if httpx.get(f"{url}/health", trust_env=False).status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(15)


@pytest.mark.parametrize(("username", "password"), [("admin", PASSWORD), ("token", TOKEN)], ids=["a user", "a token"])
def test_the_reference_opens_for_a_user_and_for_a_token(browser: Browser, manager: str, username: str, password: str) -> None:
    context = browser.new_context(http_credentials={"username": username, "password": password})
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    answer = page.goto(f"{manager}/docs")
    assert answer is not None and answer.status == 200
    expect(page.locator("details").filter(has_text="/v1/vms/adopt")).to_be_visible()
    assert all(url.startswith(manager) for url in asked), "nothing comes from other machines"
    context.close()


def test_anonymous_callers_get_a_sign_in_prompt_and_no_api_reference(browser: Browser, manager: str) -> None:
    for path in ("/docs", "/openapi.json"):
        answer = httpx.get(manager + path, trust_env=False)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic "), "a browser asks for user name and password"
    context = browser.new_context(http_credentials={"username": "token", "password": "nqr_" + "x" * 43})
    page = context.new_page()
    answer = page.goto(f"{manager}/docs")
    assert answer is not None and answer.status == 401
    expect(page.locator("body")).not_to_contain_text("/v1/vms")
    context.close()


def test_programs_read_the_openapi_document_with_credentials(manager: str) -> None:
    for headers, auth in (({"Authorization": f"Bearer {TOKEN}"}, None), ({}, ("token", TOKEN)), ({}, ("admin", PASSWORD))):
        assert httpx.get(f"{manager}/openapi.json", headers=headers, auth=auth, trust_env=False).status_code == 200
