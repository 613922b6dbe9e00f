"""A name that nothing has: each resource has the same exit code for it."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from tests.places import ROOT
from tests.unit.cli.test_vm_commands import Handler, Manager, answering

from nqrust.cli.__main__ import run

LINES = [
    "logs NAME",
    "vm show NAME",
    "vm start NAME",
    "vm stop NAME",
    "vm restart NAME",
    "vm pause NAME",
    "vm resume NAME",
    "vm rm --force NAME",
    "vm limit NAME --none",
    "vm logs NAME",
    "vm console --log NAME",
    "vm adopt NAME",
    "vm snapshot ls NAME",
    "vm snapshot create NAME s1",
    "vm snapshot restore web1 NAME",
    "vm snapshot rm web1 NAME",
    "template show NAME",
    "template rm NAME",
    "volume attach NAME --size 1G",
    "volume detach --keep web1 NAME",
    "volume rm NAME",
    "image show NAME",
    "image rm NAME",
    "image rm nginx:NAME",
    "host show NAME",
    "host cordon NAME",
    "host uncordon NAME",
    "host drain NAME",
    "host rm NAME",
    "user role NAME viewer",
    "user password --reset NAME",
    "user rm NAME",
    "token rm NAME",
]
GROUPS = ("vm", "vm snapshot", "template", "volume", "image", "host", "user", "token")
WITHOUT = {
    "vm": ("ls", "create", "run", "forward", "exec", "shell", "cp", "ssh"), "template": ("ls", "create"), "volume": ("ls",),
    "image": ("ls", "add", "pull", "build", "import", "scan"), "host": ("ls", "token"), "user": ("ls", "create"),
    "token": ("ls", "create"),
}  # fmt: skip
"""Commands without the name of a thing, or in a guest."""


class Empty(Handler):
    """A manager that has nothing."""

    def reply(self) -> tuple[int, Any]:
        path = self.path.split("?")[0]
        if self.command == "GET" and path in ("/v1/users", "/v1/tokens", "/v1/images", "/v1/vms", "/v1/hosts"):
            return 200, {"items": [], "total": 0}
        return 404, {"title": "no", "status": 404, "detail": "There is no such thing.", "code": "NQR-API-103"}


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    with answering(Empty, monkeypatch) as server:
        yield server


@pytest.mark.parametrize("line", LINES)
def test_a_name_that_nothing_has_ends_every_command_with_1(
    line: str, manager: Manager, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("a long enough password\n"))
    assert run(line.replace("NAME", "nothing").split()) == 1
    said = capsys.readouterr().err
    assert manager.asked and said.startswith(("NQR-API-103  ", "NQR-USE-015  ", "NQR-USE-070  ", "NQR-USE-090  ")), said


def test_no_command_is_left_out() -> None:
    every = (ROOT / "tests/golden/cli/commands.txt").read_text().splitlines()
    left = [line for line in every if line.rpartition(" ")[0] in GROUPS and line not in GROUPS]
    left = [line for line in left if not any(tried.startswith(line) for tried in LINES)]
    assert [line for line in left if line.split()[-1] not in WITHOUT.get(line.split()[0], ())] == []
