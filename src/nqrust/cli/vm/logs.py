"""nqr vm logs: the output of the serial console, and what follows."""

from __future__ import annotations

import io
import sys
import time
from typing import Annotated

import typer

from nqrust.cli import outlet, output, stopping
from nqrust.cli.connection import ManagerUrl, manager

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name or id of the VM.")]
Follow = Annotated[bool, typer.Option("-f", "--follow", help="Print new output until Ctrl-C.")]
Lines = Annotated[
    int | None, typer.Option("-n", "--tail", "--lines", metavar="N", min=1, help="Number of earlier lines (default: all).")
]
WINDOW = 64 * 1024
"""Bytes of the log that are read each time; more than a serial port writes in that time."""
_EVERY = 1.0  # seconds
_CUT = 4  # characters at the beginning of a window that may be half of one


def build(app: typer.Typer) -> None:
    app.command("logs", help="Print the output of the serial console of a VM.")(logs)


def logs(name: Name, follow: Follow = False, lines: Lines = None, url: ManagerUrl = None) -> None:
    from nqrust.client import calls

    with manager(url) as client:
        before = _whole(client.send(calls.console_log(name)))
        _show(before if lines is None else last(before, lines))
        with stopping.is_the_end(), outlet.follows():
            while follow:
                time.sleep(_EVERY)
                now = _whole(client.send(calls.console_log(name, tail=WINDOW)))
                _show(added(before[-WINDOW:], now))
                before = now


def last(text: str, count: int) -> str:
    """Return the last `count` lines. A line that has not ended yet is one of them."""
    return "".join(io.StringIO(text, newline="\n").readlines()[-count:])  # a guest's line ends with \r\r\n, too


def added(before: str, now: str) -> str:
    """Return what is at the end of the log's window `now` and was not in the one before. All of it if they have nothing in
    common: the log was cut, or is a new one."""
    if now.startswith(before):
        return now[len(before) :]
    skip = _CUT if len(now) > 64 * _CUT else 0
    head, at = now[skip : skip + 64], -1
    while (at := before.find(head, at + 1)) >= 0:
        if now.startswith(before[at:], skip):
            return now[skip + len(before) - at :]
    return now


def _whole(said: str) -> str:
    """Leave out half a character at the end. It is whole the next time."""
    return said.rstrip("\N{REPLACEMENT CHARACTER}")


def _show(said: str) -> None:
    typer.echo(output.without_sequences(said) if sys.stdout.isatty() else said, nl=False)
    sys.stdout.flush()
