"""Each option and argument of the commands that query the manager has a row that names its effect, and has that effect."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from tests.places import ROOT
from tests.unit.installer.effects.fake_manager import FakeManager

from nqrust.cli import app
from nqrust.cli.__main__ import run
from nqrust.cli.vm import booting, console
from nqrust.cli.vm import copy as vm_copy
from nqrust.cli.vm import exec as vm_exec
from nqrust.cli.vm import logs as vm_logs
from nqrust.cli.vm import ssh as vm_ssh
from nqrust.contract.guest import ExecRequest

T = TypeVar("T")
TABLE: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "tests/tables/effects/client.yaml").read_text())
TREE = app.command()
EVERYWHERE = ("--manager", "--output", "--quiet")
PROOFS = ("body", "call", "no_call", "says", "no_word", "waits")


def options(group: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Return (command, option or argument) of the real command line."""
    for name, inner in group.commands.items():
        here = f"{path} {name}".strip()
        if hasattr(inner, "commands"):
            yield from options(inner, here)
        for parameter in () if hasattr(inner, "commands") else inner.params:
            yield here, parameter.opts[-1] if parameter.param_type_name == "option" else parameter.name


OF_CLIENTS = {(here, one) for here, one in options(TREE) if (here, "--manager") in set(options(TREE))} - {
    (here, one) for here, one in options(TREE) if here in ("image build", "image import")
}
"""These two build on this host; they are among the other commands."""
ROWS = [(here, one) for here, row in TABLE.items() for one in row if one != "base"]


def test_the_table_is_the_command_line() -> None:
    assert set(ROWS) == {(here, one) for here, one in OF_CLIENTS if one not in (*EVERYWHERE, "--help")}
    assert TABLE.keys() == {here for here, _ in OF_CLIENTS}
    for here, one in ROWS:
        assert set(TABLE[here][one]) & set(PROOFS), f"{here} {one} names no effect"


@dataclass
class Ran:
    manager: FakeManager
    code: int
    said: str
    out: str


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    (tmp_path / "key.pub").write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGtra2tra2tra2tra2tra2tra2tra2tra2tra2tra2tr a@b\n")
    (tmp_path / "env").write_text("B=2\n")
    (tmp_path / "hash").write_text("$6$salt$hash\n")
    (tmp_path / "user-data").write_text("#cloud-config\n{}\n")
    named = {
        "KEY": str(tmp_path / "key.pub"),
        "ENVFILE": str(tmp_path / "env"),
        "HASH": str(tmp_path / "hash"),
        "USERDATA": str(tmp_path / "user-data"),
        "SUM": "a" * 64,
    }
    monkeypatch.setenv("NQR_MANAGER_URL", "http://of-the-environment:1")
    monkeypatch.setenv("NQR_TOKEN", "good")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(console, "attach", lambda url, name, authority: 0)

    def once(here: str, words: str, *, stuck: bool = False, taken: bool = False) -> Ran:
        with pytest.MonkeyPatch.context() as patch:
            manager = FakeManager(stuck=stuck, taken=taken).install(patch)
            if here == "vm rm":  # of a VM that needs no --force
                manager.state, manager.snapshots = "stopped", []
            if here == "vm run":
                manager.exit_code = 0
            patch.setattr(vm_exec, "attach", partial(told, manager))
            patch.setattr(vm_copy, "upload", partial(copied, manager))
            patch.setattr(vm_copy, "connected", lambda *_: nullcontext())
            patch.setattr(vm_copy, "_command", lambda *_: 0)
            patch.setattr(booting, "until_ready", partial(ready, manager))
            patch.setattr(vm_ssh, "_host_keys", lambda name, url, accept_new: [] if accept_new else ["ssh-ed25519 AAAA"])
            patch.setattr(vm_ssh.shutil, "which", lambda name: f"/usr/bin/{name}")
            patch.setattr(vm_ssh.socket, "create_connection", lambda *_: io.StringIO())
            patch.setattr(vm_ssh.os, "execv", partial(signed_in, manager))
            patch.setattr(vm_logs.time, "sleep", partial(second_of, manager))
            patch.setattr(app, "command", lambda: TREE)  # made once
            patch.setattr(sys, "stdin", io.StringIO("the current one\nanother password\n"))
            code = run([*here.split(), *(named.get(word, word) for word in words.split())])
        captured = capsys.readouterr()
        return Ran(manager, code, captured.out + captured.err, captured.out)

    return once


def told(manager: FakeManager, address: str, name: str, trusted: str | None, request: ExecRequest, *, interactive: bool) -> int:
    """What a session is asked for, in words."""
    environment = {name.decode(): value.decode() for name, value in request.environment if name != b"TERM"}
    manager.asked.append(
        (
            "EXEC",
            {
                "command": [word.decode() for word in request.command],
                "environment": environment,
                "directory": request.directory and request.directory.decode(),
                "terminal": request.terminal is not None,
                "interactive": interactive,
            },
        )
    )
    return 0


def ready(manager: FakeManager, name: str, url: str | None, patience: float, attempt: Callable[[], T], **more: object) -> T:
    manager.asked.append(("WAIT", {"boot_timeout": patience}))
    return attempt()


def copied(manager: FakeManager, opened: Any, *what: str) -> None:
    with opened(lambda kind, data: None, lambda: None):
        manager.asked.append(("COPY", {"copied": list(what)}))


def signed_in(manager: FakeManager, program: str, argv: list[str]) -> None:
    """What ssh(1) gets."""
    options = dict(word.split("=", 1) for before, word in pairwise(argv) if before == "-o")
    words = {flag: value for flag, value in pairwise(argv) if flag in ("-l", "-i")}
    manager.asked.append(("SSH", {**options, **words, "command": argv[argv.index("--") + 1 :]}))


def second_of(manager: FakeManager, seconds: float) -> None:
    """Somebody presses Ctrl-C after the second look at a log."""
    if len([call for call, _ in manager.asked if "console/log" in call]) > 1:
        raise SystemExit(0)


def holds(body: Any, wanted: dict[str, Any]) -> bool:
    return isinstance(body, dict) and all(name in body and body[name] == value for name, value in wanted.items())


@pytest.mark.parametrize(("here", "one"), ROWS, ids=[f"{here} {one}" for here, one in ROWS])
def test_an_option_has_the_effect_that_its_row_names(here: str, one: str, ran: Any) -> None:
    row = TABLE[here][one]
    base = str(row.get("base", TABLE[here]["base"]))
    words = str(row["instead"]) if "instead" in row else f"{base} {row['add']}"
    more = {"stuck": "waits" in row, "taken": row.get("taken", False)}
    before, after = ran(here, base, **more), ran(here, words, **more)
    if not more["stuck"] and not more["taken"]:
        assert before.code == 0, before.said
        assert after.code == 0 or row.get("fails"), after.said
    wanted = {name: "a" * 64 if value == "SUM" else value for name, value in row.get("body", {}).items()}
    seen = {
        "body": lambda it: any(holds(body, wanted) for _, body in it.manager.asked),
        "call": lambda it: row["call"] in [call for call, _ in it.manager.asked],
        "no_call": lambda it: row["no_call"] not in [call for call, _ in it.manager.asked],
        "says": lambda it: row["says"] in it.said,
        "no_word": lambda it: row["no_word"] not in it.said,
        "waits": lambda it: row["waits"] <= it.manager.seconds < row["waits"] + 2,
    }
    for proof in (name for name in PROOFS if name in row):
        assert seen[proof](after), f"{proof}: {after.manager.asked} {after.said}"
        assert not seen[proof](before), f"{proof} holds without it too"


@pytest.mark.parametrize("here", TABLE)
def test_manager_option_selects_the_manager(here: str, ran: Any) -> None:
    base = TABLE[here]["base"]
    assert ran(here, base).manager.bases == {"http://of-the-environment:1"}
    assert ran(here, f"--manager http://named.example:9 {base}").manager.bases == {"http://named.example:9"}


@pytest.mark.parametrize("here", [here for here in TABLE if (here, "--output") in OF_CLIENTS])
def test_output_json_is_one_document_of_the_api(here: str, ran: Any) -> None:
    base = TABLE[here]["base"]
    document = json.loads(ran(here, f"{base} --output json").out)
    assert document.keys() & {"items", "id", "name", "token"}
    with pytest.raises(json.JSONDecodeError):
        json.loads(ran(here, base).out)


def test_the_token_of_the_environment_is_sent(ran: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ran("vm ls", "").manager.tokens == {"Bearer good"}
    monkeypatch.setenv("NQR_TOKEN", "another")
    assert ran("vm ls", "").manager.tokens == {"Bearer another"}
