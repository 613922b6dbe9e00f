"""The token of an installation goes to its own manager only."""

from __future__ import annotations

import socket

import pytest

from nqrust.cli import connection
from nqrust.installer.engine.errors import UsageError
from nqrust.installer.settings.sources import gather


@pytest.fixture(autouse=True)
def installation(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = gather(flags={}, environ={}).settings
    monkeypatch.setattr(connection, "installed_settings", lambda: settings)
    monkeypatch.setattr(connection, "_token", lambda _: "nqr_own")
    for name in ("NQR_TOKEN", "NQR_MANAGER_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "url",
    [None, "http://127.0.0.1:18080", "http://localhost:18080/", "https://[::1]:18080", f"https://{socket.gethostname()}:18080"],
)
def test_own_manager_gets_the_token_of_the_installation(url: str | None) -> None:
    assert connection.address(url)[1] == "nqr_own"


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.1:18080",
        "https://manager.example:18080",
        "http://127.0.0.1:9",
        "http://127.evil.example:18080",
        "http://127.0.0.1@192.0.2.1:18080",
        f"http://{socket.gethostname()}:18080",
        "http://0.0.0.0:18080",
        "http://127.0.0.1:99999",
    ],
)
@pytest.mark.parametrize("by_variable", [False, True])
def test_no_other_address_gets_the_token_of_the_installation(
    url: str, by_variable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_variable:
        monkeypatch.setenv("NQR_MANAGER_URL", url)
    with pytest.raises(UsageError) as refused:
        connection.address(None if by_variable else url)
    assert refused.value.code == "NQR-USE-028" and url in refused.value.what

    monkeypatch.setenv("NQR_TOKEN", "nqr_of_that_manager")
    assert connection.address(url) == (url, "nqr_of_that_manager")
