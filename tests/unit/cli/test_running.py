"""nqr run: what it prints, and what it makes of its options."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.installer.effects import fake_manager
from tests.unit.installer.effects.fake_manager import FakeManager
from typer.testing import CliRunner

from nqrust.cli.__main__ import run
from nqrust.cli.vm import ports as vm_ports
from nqrust.cli.vm import running
from nqrust.cli.vm.running import Output, _made_up, _variables
from nqrust.contract.vms import VmCreate
from nqrust.installer.engine.errors import UsageError

LOG = "boot\r\nnqr-init: started sh\r\none\r\nnqr-in\r\r\ntwo\rthreenqr-init: ended with code 7\r\n[  8.5] reboot: Power down\r\n"
SHOWN = "one\nnqr-in\ntwo\rthree"


def asked(monkeypatch: pytest.MonkeyPatch, *words: str) -> dict[str, Any]:
    """What `nqr run` with these words would ask the manager for."""
    found: dict[str, Any] = {}

    def keep(**given: Any) -> None:
        found.update(given)
        if given["image"] != "any":  # the look before the pull
            raise typer.Abort

    app = typer.Typer()
    running.build(app)
    app.command("other")(lambda: None)
    monkeypatch.setattr(running, "manager", lambda url: contextlib.nullcontext())
    monkeypatch.setattr(running, "_image", lambda client, reference, *more: SimpleNamespace(name=reference))
    monkeypatch.setattr(running, "checked", keep)
    done = CliRunner().invoke(app, ["run", *words])
    if isinstance(done.exception, UsageError):
        raise done.exception
    return found


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ("web", None),
        ("web ls -l", ["ls", "-l"]),
        ("web -- ls -l", ["ls", "-l"]),
        ("web -- --version", ["--version"]),
        ("web sh -- x", ["sh", "--", "x"]),
        ("web --", None),
    ],
)
def test_words_after_the_image_are_the_command(monkeypatch: pytest.MonkeyPatch, words: str, command: list[str] | None) -> None:
    found = asked(monkeypatch, "--rm", "-p", "8080:80", *words.split())
    assert (found["image"], found["command"], [one.host_port for one in found["forwards"]]) == ("web", command, [8080])


@pytest.mark.parametrize("option", ["-p", "--rm", "-d"])
def test_an_option_after_the_image_is_refused(monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    with pytest.raises(UsageError) as refused:
        asked(monkeypatch, "nginx:alpine", option, "8080:80")
    assert refused.value.code == "NQR-IMG-070" and option in refused.value.what
    assert f"nqr run {option} … nginx:alpine" in refused.value.cure


@given(st.lists(st.integers(0, len(LOG)), max_size=8))
def test_the_output_is_whole_wherever_the_log_is_cut(cuts: list[int]) -> None:
    shown = Output()
    assert "".join(shown.more(LOG[:cut]) for cut in [*sorted(cuts), len(LOG)]) == SHOWN


def test_output_appears_before_its_line_is_complete() -> None:
    shown = Output()
    assert [shown.more("nqr-init: started sh\r\nPassword? "), shown.more("nqr-init: started sh\r\nPassword? nqr")] == [
        "Password? ",
        "",
    ]


def test_a_log_that_was_cut_goes_on() -> None:
    shown = Output()
    first = "nqr-init: started sh\n" + "".join(f"line {number}\n" for number in range(9000))
    whole = shown.more(first)
    assert whole + shown.more(first[-65_536:] + "more\n") == first.partition("\n")[2] + "more\n"


def test_variables_come_from_the_file_the_options_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "env").write_text("# comment\nA=1\n\nB=x = y\n")
    monkeypatch.setenv("SECRET", "hidden")
    monkeypatch.delenv("ABSENT", raising=False)
    found = _variables(["A=2", "SECRET", "ABSENT", "EMPTY="], str(tmp_path / "env"))
    assert found == ["A=1", "B=x = y", "A=2", "SECRET=hidden", "EMPTY="]


@pytest.mark.parametrize("wrong", ["=x", "", "a\0b"])
def test_what_is_no_variable_is_refused(wrong: str) -> None:
    with pytest.raises(UsageError) as refused:
        _variables([wrong], None)
    assert refused.value.code == "NQR-USE-003"


@pytest.mark.parametrize("image", ["nginx-alpine", "7zip-latest", "a.b_c-1", "x" * 64])
def test_a_made_up_name_is_one_of_a_vm(image: str) -> None:
    assert VmCreate(name=_made_up(image), image="x").name


@pytest.mark.parametrize(
    ("host", "forwards", "told"),
    [
        ("http://192.0.2.7:19090", ["8080:80", "8443:443", "5432:5432", "53:53/udp"],
         ["http://192.0.2.7:8080", "https://192.0.2.7:8443", "192.0.2.7:5432 (tcp 5432)", "192.0.2.7:53 (udp 53)"]),
        ("https://[2001:db8::7]:19090", ["8080:80"], ["http://[2001:db8::7]:8080"]),
        ("http://127.0.0.1:19090", ["8080:80"], ["http://manager.example:8080"]),
        ("http://192.0.2.7:19090", [], []),
    ],
)  # fmt: skip
def test_the_addresses_of_forwarded_ports_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], host: str, forwards: list[str], told: list[str]
) -> None:
    ports = [one.model_dump(mode="json") for one in vm_ports.parse(forwards)]
    monkeypatch.setitem(fake_manager.HOST, "url", host)
    monkeypatch.setitem(fake_manager.VM, "forwards", ports)
    FakeManager().install(monkeypatch)
    monkeypatch.setenv("NQR_MANAGER_URL", "https://manager.example:1")
    monkeypatch.setenv("NQR_TOKEN", "good")
    assert run(["run", "-d", *(word for one in forwards for word in ("-p", one)), "nginx:alpine"]) == 0
    said = capsys.readouterr()
    assert said.out == "web1\n", "scripts read the name"
    assert said.err.splitlines() == [f"web1 listens at {address}" for address in told]
