"""The UI's environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nqrust.ui import __main__ as program
from nqrust.ui.settings import BadSetting, from_environment


def test_ui_settings_have_defaults() -> None:
    found = from_environment({"PORT": "1", "HOSTNAME": "x"})
    assert (found.address, found.port, found.manager_base) == ("0.0.0.0", 3000, "http://127.0.0.1:18080")
    assert len(found.storage_secret) > 30
    assert found.storage_secret not in repr(found)


def test_ui_settings_come_from_the_environment() -> None:
    found = from_environment({"UI_BIND": "[::1]:81", "MANAGER_BASE": "https://m.example:8443/", "UI_STORAGE_SECRET": "s"})
    assert (found.address, found.port, found.manager_base, found.storage_secret) == ("::1", 81, "https://m.example:8443", "s")


@pytest.mark.parametrize(
    "environment",
    [
        {"UI_BIND": "3000"},
        {"UI_BIND": "0.0.0.0:x"},
        {"UI_BIND": "0.0.0.0:0"},
        {"UI_BIND": "0.0.0.0:65536"},
        {"MANAGER_BASE": "manager:18080"},
        {"MANAGER_BASE": "ftp://m"},
    ],
)
def test_invalid_ui_setting_is_named_with_its_cure(environment: dict[str, str]) -> None:
    with pytest.raises(BadSetting, match="NQR-CFG-190") as caught:
        from_environment(environment)
    assert next(iter(environment)) in caught.value.what and caught.value.cure


def test_a_wrong_setting_ends_with_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("UI_BIND", "nowhere")
    with pytest.raises(SystemExit) as caught:
        program.main()
    assert caught.value.code == 2
    assert "UI_BIND is nowhere, which is not ADDRESS:PORT." in capsys.readouterr().err


def test_sessions_are_written_where_only_this_user_reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(program.STORAGE_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o022)
    try:
        program.prepare_storage()
        assert os.environ[program.STORAGE_VARIABLE] == str(tmp_path / "sessions")
        assert (tmp_path / "sessions").stat().st_mode & 0o777 == 0o700
        (tmp_path / "sessions" / "x").write_text("")
        assert (tmp_path / "sessions" / "x").stat().st_mode & 0o077 == 0
    finally:
        os.umask(before)
        os.environ.pop(program.STORAGE_VARIABLE, None)


def test_a_browsers_address_goes_to_the_manager_with_the_key_that_the_installer_knows() -> None:
    from nqrust.contract.credentials import ui_key
    from nqrust.contract.names import CLIENT_HEADER, UI_KEY_HEADER
    from nqrust.ui.session import passed_on

    key = ui_key("the secret of the session cookie")
    assert passed_on("192.0.2.7", key) == {UI_KEY_HEADER: key, CLIENT_HEADER: "192.0.2.7"}
    assert "secret" not in key and ui_key("another") != key
    assert passed_on("", key) == {} and passed_on("192.0.2.7\r\nX: y", key) == {} and passed_on("é", key) == {}
