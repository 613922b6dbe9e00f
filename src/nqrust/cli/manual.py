"""nqr man: the manual page, made from the commands of this very program; man-pages(7), groff_man(7)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from nqrust import __version__
from nqrust.cli.pages import described, is_argument, usage

_EXIT = (
    ("0", "success"),
    ("1", "failure; a run with --on-failure keep left its changes"),
    ("2", "wrong usage or configuration; nothing was changed"),
    ("3", "refused by preflight; nothing was changed"),
    ("4", "installed, but verification failed"),
    ("5", "failed and rolled back"),
    ("10", "nqr plan --detailed-exitcode: there are changes"),
    ("130", "interrupted"),
)
_ENVIRONMENT = (
    ("NQR_MANAGER_URL", "address of the manager (default: this host)"),
    ("NQR_TOKEN", "API token (default: the token of this host, which root can read)"),
    ("NQR_CA_FILE", "certificate of the manager's authority"),
    ("NQR_DEBUG", "1 shows the details of unexpected errors"),
    ("NO_COLOR", "no colors"),
)


def add_to(app: typer.Typer) -> None:
    app.command(help="Print the manual page as roff source, for man(1).")(man)


def man(context: typer.Context) -> None:
    typer.echo(render(context.find_root().command), nl=False)


def render(root: Any) -> str:
    """Return the page of a tree of commands as roff source."""
    lines = [f'.TH NQR 1 "" "nqr {__version__}" "NQRust-MicroVM"', ".SH NAME"]
    lines += [
        r"nqr \- install, test, use and remove a microVM platform",
        ".SH SYNOPSIS",
        r"\fBnqr\fR \fICOMMAND\fR [\fIOPTIONS\fR]",
    ]
    lines += [".SH DESCRIPTION", _text(root.help), ".SH COMMANDS"]
    for path, command in _commands(root, ("nqr",)):
        lines += _command(path, command)
    for heading, rows in (("EXIT STATUS", _EXIT), ("ENVIRONMENT", _ENVIRONMENT)):
        lines.append(f".SH {heading}")
        lines += [line for name, text in rows for line in (".TP", rf"\fB{_text(name)}\fR", _text(f"{text}."))]
    return "\n".join(lines) + "\n"


def _commands(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, inner in node.commands.items():
        if hasattr(inner, "commands"):
            yield from _commands(inner, (*path, name))
        elif not inner.hidden:
            yield (*path, name), inner


def _command(path: tuple[str, ...], command: Any) -> Iterator[str]:
    arguments = [one for one in command.params if is_argument(one)]
    pieces = ["[OPTIONS]", *(usage(one) for one in arguments)]
    yield rf".SS \fB{_text(' '.join(path))}\fR {_text(' '.join(pieces))}"
    yield _text(command.help)
    for one in command.params:
        if getattr(one, "hidden", False) or one.name == "help":
            continue
        value = "" if is_argument(one) or getattr(one, "is_flag", False) or not one.metavar else rf" \fI{_text(one.metavar)}\fR"
        names = [one.metavar or one.name.upper()] if is_argument(one) else [*one.opts, *one.secondary_opts]
        yield ".TP"
        yield ", ".join(rf"\fB{_text(name)}\fR" for name in names) + value
        yield _text(described(one))


def _text(text: str | None) -> str:
    """Return text that roff takes literally: no escape, no macro at the start of a line, and real hyphens."""
    plain = " ".join((text or "").split()).replace("\\", r"\e").replace("-", r"\-")
    return re.sub(r"^([.'])", r"\\&\1", plain)
