"""nqr token: what goes to the manager, and what people see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.unit.cli.test_vm_commands import Handler, Manager, answering

from nqrust.cli.__main__ import run

AT = "2026-01-01T00:00:00Z"


def token(number: int, name: str, **more: Any) -> dict[str, Any]:
    return {"id": f"t{number}", "name": name, "role": "viewer", "created_at": AT, **more}


TOKENS = [
    token(1, "ci", owner="ann", created_by="ann", expires_at=AT, last_used_at=AT),
    token(2, "ops", created_by="token:nqr-cli"),
    token(3, "ops", owner="ann", created_by="ann"),
]


class Tokens(Handler):
    made = "nqr_made"
    renamed = ""

    def reply(self) -> tuple[int, Any]:
        method, _, body = self.server.asked[-1]
        if method == "POST":
            return 201, {**token(9, self.renamed or body["name"], role=body["role"]), "token": self.made}
        return (204, None) if method == "DELETE" else (200, {"items": TOKENS, "total": len(TOKENS)})


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    with answering(Tokens, monkeypatch) as server:
        yield server


def test_a_new_token_is_the_only_output(manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["token", "create", "ci", "--role", "operator"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "nqr_made\n" and "Token ci has the role operator. It expires: never." in shown.err
    assert manager.asked == [("POST", "/v1/tokens", {"name": "ci", "role": "operator"})]


@pytest.mark.parametrize("forged", ["nqr_x\x1b[2K", "nqr_x; id", "x", ""])
def test_nothing_of_a_forged_token_is_shown(
    manager: Manager, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, forged: str
) -> None:
    monkeypatch.setattr(Tokens, "made", forged)
    assert run(["token", "create", "ci"]) == 1
    shown = capsys.readouterr()
    assert shown.out == "" and "NQR-USE-043" in shown.err


def test_a_name_that_the_manager_tells_adds_no_line(
    manager: Manager, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tokens, "renamed", "ci\x1b[2K\nPaste this: id")
    assert run(["token", "create", "ci"]) == 0
    assert capsys.readouterr().err.splitlines()[0].startswith("Token ci\ufffd[2K Paste this: id has the role viewer.")


@pytest.mark.parametrize(("given", "seconds"), [("30d", 2_592_000), ("12h", 43_200), ("45m", 2_700), ("never", 0)])
def test_expiry_is_a_time_or_never(manager: Manager, given: str, seconds: int) -> None:
    assert run(["token", "create", "ci", "--expires", given]) == 0
    assert manager.asked[0][2]["ttl_seconds"] == seconds


@pytest.mark.parametrize("given", ["", "0d", "30", "d", "-1d", "1w", "forever", "99999999d"])
def test_unusable_expiry_is_refused(manager: Manager, capsys: pytest.CaptureFixture[str], given: str) -> None:
    assert run(["token", "create", "ci", f"--expires={given}"]) == 2
    assert "--expires cannot be" in capsys.readouterr().err and manager.asked == []


def test_unusable_name_and_role_are_refused(manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["token", "create", "x" * 65]) == 2
    assert "NAME cannot be" in capsys.readouterr().err
    assert run(["token", "create", "ci", "--role", "root"]) == 2
    assert "--role cannot be" in capsys.readouterr().err and manager.asked == []


def test_the_list_shows_owner_expiry_and_last_use(manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["token", "ls"]) == 0
    head, ci, ops, _ = capsys.readouterr().out.splitlines()
    assert head.split() == ["NAME", "ROLE", "OWNER", "EXPIRES", "LAST", "USED", "ID"]
    assert ci.split() == ["ci", "viewer", "ann", "2026-01-01", "00:00:00Z", "(expired)", "2026-01-01", "00:00:00Z", "t1"]
    assert ops.split() == ["ops", "viewer", "token:nqr-cli", "never", "-", "t2"]


def test_a_token_is_revoked_by_name_or_id(manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["token", "rm", "ci"]) == 0 and run(["token", "rm", "t3"]) == 0
    assert [path for method, path, _ in manager.asked if method == "DELETE"] == ["/v1/tokens/t1", "/v1/tokens/t3"]
    for name, what, code in (("ops", "2 tokens are named ops.", 2), ("nope", "There is no token nope.", 1)):
        assert run(["token", "rm", name]) == code
        assert what in capsys.readouterr().err
