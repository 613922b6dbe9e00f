"""`nqr user password`: hidden on a terminal, two lines of standard input without one, never in argv."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from tests.unit.cli.test_vm_commands import VM, Handler, Manager, answering

from nqrust.cli.__main__ import run

CURRENT, NEW = "a long password", "another password"
CHANGED = [
    ("POST", "/v1/auth/login", {"username": "ann", "password": CURRENT}),
    ("PUT", "/v1/auth/password", {"current_password": CURRENT, "new_password": NEW}),
    ("POST", "/v1/auth/logout", None),
]


class Accounts(Handler):
    def reply(self) -> tuple[int, Any]:
        _, path, body = self.server.asked[-1]
        if path == "/v1/auth/login":
            if body["password"] != CURRENT:
                return 401, {"title": "no", "status": 401, "detail": "Wrong.", "code": "NQR-API-107", "cure": "Check both."}
            return 200, {"token": "nqr_hers", "expires_at": VM["created_at"], "username": "ann", "role": "viewer"}
        assert self.headers["Authorization"] == "Bearer nqr_hers"
        if path == "/v1/auth/password" and self.server.taken:
            return 429, {"title": "no", "status": 429, "detail": "Too many.", "code": "NQR-API-106", "cure": "Wait 4 s."}
        return 204, None


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    with answering(Accounts, monkeypatch, token="an API token, which has no password") as server:
        yield server


def given(monkeypatch: pytest.MonkeyPatch, *lines: str) -> int:
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    return run(["user", "password", "ann"])


def test_password_is_changed_from_two_lines_of_standard_input(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert given(monkeypatch, CURRENT, NEW) == 0
    assert manager.asked == CHANGED
    assert capsys.readouterr().out == "changed the password of ann\n"


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ((), "two passwords"),
        ((CURRENT,), "two passwords"),
        ((CURRENT, ""), "two passwords"),
        ((CURRENT, "eleven-char"), "The new password cannot be"),
    ],
)
def test_invalid_password_is_not_sent(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lines: tuple[str, ...], what: str
) -> None:
    assert given(monkeypatch, *lines) == 2
    said = capsys.readouterr().err
    assert "NQR-USE-013" in said and what in said and "eleven-char" not in said
    assert manager.asked == []


def test_wrong_current_password_is_refused(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert given(monkeypatch, "not the right one", NEW) != 0
    assert "NQR-API-107" in capsys.readouterr().err
    assert [path for _, path, _ in manager.asked] == ["/v1/auth/login"]


def test_refused_password_change_ends_its_session(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manager.taken = True
    assert given(monkeypatch, CURRENT, NEW) != 0
    assert "NQR-API-106" in capsys.readouterr().err
    assert manager.asked == CHANGED


@pytest.mark.parametrize(("again", "code"), [(NEW, 0), ("yet another one", 2)])
def test_password_prompt_hides_the_input(manager: Manager, again: str, code: int) -> None:
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "nqrust.cli", "user", "password", "ann", "--manager", manager.url]
    program = subprocess.Popen(
        words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env={**os.environ, "COLUMNS": "100"}
    )
    os.close(theirs)
    shown = b""
    for prompt, answer in ((b"Current password of ann: ", CURRENT), (b"New password: ", NEW), (b"again: ", again)):
        while not shown.endswith(prompt):
            shown += os.read(ours, 4096)
        os.write(ours, f"{answer}\n".encode())
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:
        pass  # a terminal nobody has open any more reads as EIO
    os.close(ours)
    assert program.wait(60) == code, shown
    assert (b"changed the password of ann" if code == 0 else b"NQR-USE-013") in shown
    assert not any(secret.encode() in shown for secret in (CURRENT, NEW, again))
    assert manager.asked == (CHANGED if code == 0 else [])


class Users(Handler):
    def reply(self) -> tuple[int, Any]:
        user = {"id": "u1", "username": "ann", "role": "viewer", "created_at": VM["created_at"]}
        method, path, body = self.server.asked[-1]
        if (method, path) == ("GET", "/v1/users"):
            return 200, {"items": [user], "total": 1}
        return (204, None) if method == "DELETE" else (200, {**user, **{k: v for k, v in body.items() if k != "password"}})


def test_a_user_is_created_changed_and_deleted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(Users, monkeypatch) as manager:
        for words, line in (
            ("user create ann --role operator", NEW), ("user role ann admin", ""), ("user password ann --reset", NEW),
            ("user ls", ""), ("user rm ann", ""),
        ):  # fmt: skip
            monkeypatch.setattr(sys, "stdin", io.StringIO(f"{line}\n"))
            assert run(words.split()) == 0
    changes = [(how, path, {k: v for k, v in (body or {}).items() if v}) for how, path, body in manager.asked if how != "GET"]
    assert changes == [
        ("POST", "/v1/users", {"username": "ann", "password": NEW, "role": "operator"}),
        ("PATCH", "/v1/users/u1", {"role": "admin"}),
        ("PATCH", "/v1/users/u1", {"password": NEW}),
        ("DELETE", "/v1/users/u1", {}),
    ]
    said = capsys.readouterr()
    assert NEW not in said.out + said.err and "deleted user ann" in said.out


@pytest.mark.parametrize(
    ("words", "line", "code"),
    [
        ("user create ann", "short", "NQR-USE-013"), ("user create ann", "", "NQR-USE-013"), ("user create Ann", NEW, "NQR-USE-003"),
        ("user create ann --role root", NEW, "NQR-USE-003"), ("user role ann root", "", "NQR-USE-003"),
        ("user password ann --reset", "short", "NQR-USE-013"),
    ],
)  # fmt: skip
def test_a_bad_user_is_refused_before_any_change(
    words: str, line: str, code: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(Users, monkeypatch) as manager:
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{line}\n"))
        assert run(words.split()) == 2
    said = capsys.readouterr().err
    assert manager.asked == [] and said.startswith(code) and "current password" not in said
