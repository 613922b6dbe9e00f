"""The progress of a pull: words of the image reach the terminal without its control characters."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from nqrust.cli import pulling


@pytest.mark.parametrize("terminal", [True, False])
def test_a_command_of_an_image_does_not_control_the_terminal(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    progress = SimpleNamespace(step="running \x1b]0;owned\x07\nsh (0%)", done=0, total=0)
    found: Any = SimpleNamespace(name="a-1", download=progress)
    pulling._tell(found, "")
    shown = capsys.readouterr().err.removeprefix("\r\x1b[K").removesuffix("\n")
    assert "running" in shown and "owned" in shown
    assert not any(sign in shown for sign in "\x1b\x07\n")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_pull_that_is_quick_is_told_too(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    found: Any = SimpleNamespace(name="a-1", download=None)
    assert pulling._tell(found, pulling._tell(found, ""))
    assert capsys.readouterr().err.removeprefix("\r\x1b[K").removesuffix("\n") == "a-1: pulling", "once"
