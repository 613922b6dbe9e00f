"""Text from guests on a user's terminal."""

from __future__ import annotations

import io

import pytest

from nqrust.cli import output
from nqrust.client.errors import WaitFailed
from nqrust.contract.text import argument
from nqrust.installer.engine.errors import NqrError
from nqrust.installer.reporting.plain import PlainReporter

CLIPBOARD = "\x1b]52;c;AAAA\x07"


def test_control_characters_are_shown_as_symbols_in_tables_and_errors() -> None:
    assert output.cell(f"panic: {CLIPBOARD}x\r") == "panic: \ufffd]52;c;AAAA\ufffdx\ufffd"
    assert output.cell(["a\0", "b"]) == "a\ufffd, b" and output.cell("größer") == "größer"
    assert (
        output.cell("sign-in:x\n2026-11-29 08:00:00Z  admin\tdelete_user") == "sign-in:x 2026-11-29 08:00:00Z  admin delete_user"
    )
    out, err = io.StringIO(), io.StringIO()
    PlainReporter(out, err).failure(NqrError("NQR-API-198", f"web1: {CLIPBOARD}", "Look\x1b[2J."))
    assert "\x1b" not in err.getvalue() + out.getvalue() and "NQR-API-198" in err.getvalue()


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("\x1b[1;32mtiny\x1b[0m login: \r\n", "tiny login: \n"),
        (f"a{CLIPBOARD}b\x1b]0;title\x1b\\c", "abc"),
        ("10%\r20%\n\tdone", "10%\n20%\n\tdone"),
        ("\x1bP1$r\x1b\\\x1bc\x1b(Bok\x1b", "ok\ufffd"),
    ],
)
def test_the_log_of_a_console_on_a_terminal_has_no_sequences(said: str, shown: str) -> None:
    assert output.without_sequences(said) == shown


def test_names_of_others_add_no_line_and_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    name = "web1\x1b[2K\n; id"
    assert argument(name) == "'web1\ufffd[2K ; id'" and argument("web1") == "web1"
    output.say(f"{name} is gone")
    with output.Done("text") as done:
        done(name, f"deleted {name}")
    with output.Done("name") as done:
        done(name, f"deleted {name}")
    line = "web1\ufffd[2K ; id"
    assert capsys.readouterr().out == f"{line} is gone\ndeleted {line}\n{line}\n"
    assert f"nqr vm show {argument(name)}" in WaitFailed("It failed.", name).cure
