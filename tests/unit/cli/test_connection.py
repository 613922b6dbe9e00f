"""The token of an installation goes to its own manager only."""

from __future__ import annotations

import socket

import pytest

from nqrust.cli import connection
from nqrust.installer.engine.errors import UsageError
from nqrust.installer.settings.sources import gather

OWN_ADDRESS = "192.0.2.77"


@pytest.fixture(autouse=True)
def addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine has OWN_ADDRESS."""
    really = connection.is_here
    monkeypatch.setattr(connection, "is_here", lambda host, over_tls: host == OWN_ADDRESS or really(host, over_tls=over_tls))


@pytest.fixture(autouse=True)
def installation(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = gather(flags={}, environ={}).settings
    monkeypatch.setattr(connection, "installed_settings", lambda: settings)
    monkeypatch.setattr(connection, "_token", lambda _: "nqr_own")
    for name in ("NQR_TOKEN", "NQR_MANAGER_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "url",
    [
        None,
        "http://127.0.0.1:18080",
        "http://localhost:18080/",
        "https://[::1]:18080",
        f"https://{OWN_ADDRESS}:18080",
        f"https://{socket.gethostname()}:18080",
    ],
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
        f"http://{OWN_ADDRESS}:18080",
        "https://203.0.113.9:18080",
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


@pytest.mark.parametrize("bind", ["0.0.0.0:18080", f"{OWN_ADDRESS}:18080"])
@pytest.mark.parametrize("tls", ["on", "off"])
def test_the_own_manager_is_asked_on_loopback(bind: str, tls: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = gather(flags={"manager.bind": bind, "tls.mode": tls}, environ={}).settings
    monkeypatch.setattr(connection, "installed_settings", lambda: settings)
    assert connection.address(None) == ("http://127.0.0.1:18080", "nqr_own")


@pytest.mark.parametrize(
    ("manager_base", "gets"),
    [("https://192.0.2.1:18080", True), ("http://192.0.2.1:18080", False), ("http://localhost:18080", True)],
)
def test_the_manager_of_an_agents_host_gets_a_token_over_https(
    manager_base: str, gets: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = {"mode": "agent", "agent.manager_base": manager_base}
    settings = gather(flags=flags, environ={}).settings
    monkeypatch.setattr(connection, "installed_settings", lambda: settings)
    if gets:
        assert connection.address(None) == (manager_base, "nqr_own")
        other = manager_base.replace("https:", "x:").replace("http:", "https:").replace("x:", "http:")
        with pytest.raises(UsageError, match="NQR-USE-028"):
            connection.address(other)
    else:
        with pytest.raises(UsageError, match="NQR-USE-028"):
            connection.address(None)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://192.0.2.1:18080", True),
        ("http://manager.example:18080", True),
        ("https://192.0.2.1:18080", False),
        ("http://localhost:18080", False),
        (f"http://{OWN_ADDRESS}:18080", False),
    ],
)
@pytest.mark.parametrize(("anonymous", "secret"), [(True, "password"), (False, "token")])
def test_a_secret_without_encryption_is_told_once(
    url: str, told: bool, anonymous: bool, secret: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NQR_TOKEN", "nqr_of_that_manager")
    connection._warn_of_plain_text.cache_clear()
    for _ in range(2):
        with connection.manager(url, anonymous):
            pass
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count(f"nqr sends a {secret} to") == told
