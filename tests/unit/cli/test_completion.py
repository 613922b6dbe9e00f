"""The answers of shell completion. tests/live/cli has the scripts in real shells."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.installer.effects.fake_manager import FakeManager

from nqrust.cli import app
from nqrust.cli.__main__ import main
from nqrust.cli.completion import names
from nqrust.cli.completion.answers import answer
from nqrust.client.manager import ManagerClient

TREE = app.command()


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> FakeManager:
    monkeypatch.setenv("NQR_MANAGER_URL", "http://manager.example:1")
    monkeypatch.setenv("NQR_TOKEN", "good")
    return FakeManager().install(monkeypatch)


def words(line: str) -> list[str]:
    """What can stand at the end of the line."""
    return [one.partition("\t")[0] for one in answer(TREE, line.split(" "))]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("sta", ["status", "start"]), ("vm st", ["start", "stop"]), ("ps --wa", ["--watch"]), ("vm list --wa", ["--watch"]),
        ("vm create x --restart ", ["never", "on-failure", "always"]), ("vm ls -o j", ["json"]), ("vm ls --output=y", ["--output=yaml"]),
        ("install --mode p", ["production"]), ("install --config ", [":files"]), ("phase run ne", ["network"]), ("logs man", ["manager"]),
        ("rotate c", ["certificates"]), ("image build t", ["tiny"]), ("completion ", ["bash", "zsh", "fish"]), ("--he", ["--help"]),
        ("vm snapshot r", ["restore", "rm"]), ("vm create ", []), ("token create ", []), ("nothing such ", []), ("vm create x --memory ", []),
        ("rm -- ", [":files"]),
    ],
)  # fmt: skip
def test_words_that_need_no_manager(line: str, shown: list[str]) -> None:
    assert words(line) == shown


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("vm show ", ["web1"]), ("vm show w", ["web1"]), ("vm show x", []), ("rm ", ["web1"]), ("rm web1 ", []), ("vm inspect ", ["web1"]),
        ("vm create x --image ", ["tiny"]), ("vm create x --image=t", ["--image=tiny"]), ("vm create x --template ", ["small"]),
        ("vm ls --host ", ["h1"]), ("host drain ", ["h1"]), ("image rm ", ["tiny"]), ("template show ", ["small"]), ("token rm ", ["ci"]),
        ("volume rm ", ["db1-vdb-v1"]), ("volume attach ", ["web1"]), ("vm adopt ", ["lost"]), ("vm snapshot ls ", ["web1"]),
        ("vm snapshot restore web1 ", ["s1"]), ("vm snapshot create web1 ", []), ("vm show web1 ", []),
    ],
)  # fmt: skip
def test_names_come_from_the_manager(line: str, shown: list[str], manager: FakeManager) -> None:
    assert words(line) == shown


def test_a_half_typed_address_gets_no_token(manager: FakeManager) -> None:
    assert words("vm show --manager http://elsewhere:1 ") == [] and manager.asked == []


@pytest.mark.parametrize("name", ["$(reboot)", "a;b", "-rf", "a b", "a\nb", "`id`", "\x1b[31m", "~", "*", ""])
def test_a_name_that_a_shell_would_expand_is_left_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_asked", lambda kind, words: [name, "web1"])
    assert names.of("vms", []) == ["web1"]


def test_a_manager_that_is_away_costs_a_second_and_no_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import socket

    silent = socket.create_server(("127.0.0.1", 0))  # takes connections, and never answers
    monkeypatch.setenv("NQR_TOKEN", "secret-token")
    real, timeouts = ManagerClient.__init__, []

    def opened(client: ManagerClient, base: str, **more: Any) -> None:
        timeouts.append(more["timeout"])
        real(client, base, **more)

    monkeypatch.setattr(ManagerClient, "__init__", opened)
    for url in (f"http://127.0.0.1:{silent.getsockname()[1]}", "http://127.0.0.1:9", "ftp://x", "http://["):
        monkeypatch.setenv("NQR_MANAGER_URL", url)
        for shell, line in (("bash", ["nqr vm show "]), ("zsh", ["vm", "show", ""]), ("fish", ["vm", "show", ""])):
            with pytest.raises(SystemExit) as ended:
                main(["_complete", shell, *line])
            assert ended.value.code == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "") and set(timeouts) == {1.0}
    silent.close()


@pytest.mark.parametrize("given", [[], ["bash"], ["zsh"], ["bash", "nqr vm 'unclosed"], ["fish", "\udcff"], ["bash", ""]])
def test_no_command_line_breaks_it(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["_complete", *given])
    assert ended.value.code == 0 and capsys.readouterr().err == ""


def test_an_unknown_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    from nqrust.cli.__main__ import run

    assert run(["completion", "bsh"]) == 2
    assert "NQR-USE-003" in (said := capsys.readouterr().err) and "Did you mean bash?" in said
