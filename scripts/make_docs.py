#!/usr/bin/env python3
"""Writes the pages that come from the program: docs/reference/cli.md, the tables in settings.md and config.schema.json.

    .venv/bin/python scripts/make_docs.py

A test compares the pages with the program (tests/unit/documentation/test_generated_pages.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nqrust.cli.app import command
from nqrust.cli.install.config import render_schema
from nqrust.installer.preflight.changes import CHANGES
from nqrust.installer.settings.model import Settings
from nqrust.installer.settings.options import OPTIONS, RUN_FLAGS
from nqrust.installer.settings.record import value_of

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"
_TABLE = re.compile(r"^\|.*\n(?:\|.*\n)+", re.MULTILINE)
_SHOWN_ELSEWHERE = frozenset({"help"})
_INSTALLS = (("install",), ("plan",), ("phase", "run"), ("config", "show"), ("config", "validate"))
_RUNS = (*_INSTALLS, ("uninstall",), ("rollback",), ("verify",))
_SHARED = tuple(f"| `{one.flag}`" for one in (*OPTIONS, *RUN_FLAGS))
"""How the rows of flags begin that settings.md lists."""


def pages() -> dict[Path, str]:
    """Each generated file with its text."""
    settings = REFERENCE / "settings.md"
    return {
        REFERENCE / "cli.md": cli(),
        settings: with_tables(settings.read_text()),
        REFERENCE / "config.schema.json": render_schema(),
    }


# --- the command line


def cli() -> str:
    """Every command with its arguments and options."""
    lines = [
        "# Command line",
        "",
        "With this page you find every command of `nqr` and its options.",
        "",
        "`scripts/make_docs.py` writes this page. Every command also takes `--help`. [Exit codes](exit-codes.md) lists the results.",
    ]
    for words, node in _commands(command(), ("nqr",)):
        lines += ["", f"## {' '.join(words)}", "", _cell(node.help)]
        rows = [row for parameter in node.params if parameter.name not in _SHOWN_ELSEWHERE for row in _row(parameter)]
        if words[1:] in _RUNS:
            rows = [row for row in rows if not row.startswith(_SHARED)]
            settings = "the [settings](settings.md#settings) and " if words[1:] in _INSTALLS else ""
            lines += ["", f"Also takes {settings}its [options of a run](settings.md#options-of-a-run)."]
        lines += ["", "| argument or option | what |", "|---|---|", *rows] if rows else []
    return "\n".join(lines) + "\n"


def _commands(node: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, child in node.commands.items():
        yield (*words, name), child
        if hasattr(child, "commands"):
            yield from _commands(child, (*words, name))


def _row(parameter: Any) -> Iterator[str]:
    names = [*parameter.opts, *parameter.secondary_opts]
    if names[0].startswith("-"):
        flag = bool(getattr(parameter, "is_flag", False))
        shown = ", ".join(f"`{name}`" for name in names)
        value = "" if flag or not parameter.metavar else f" `{parameter.metavar}`"
    else:
        shown, value = f"`{parameter.metavar or parameter.name.upper()}`", ""
    help = (parameter.help or "").rstrip(".")
    default = parameter.default
    if default is True and parameter.secondary_opts:
        default = names[0].lstrip("-")
    if default not in (None, False, True, [], ()) and "default" not in help and not callable(default) and parameter.show_default:
        help += f" (default: {default:g})" if isinstance(default, float) else f" (default: {default})"
    needed = " Required." if parameter.required and names[0].startswith("-") else ""
    yield f"| {_cell(shown + value)} | {_cell(help)}.{needed} |"


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


# --- the settings


def with_tables(page: str) -> str:
    """The page with its three tables written anew: settings, changes on a re-run, options of a run."""
    tables = iter("\n".join(rows) + "\n" for rows in (_settings(), _changes(), _run_flags()))
    return _TABLE.sub(lambda _: next(tables), page)


def _choices(choices: tuple[str, ...]) -> str:
    return f" One of {', '.join(f'`{one}`' for one in choices)}." if choices else ""


def _settings() -> list[str]:
    rows, defaults = ["| setting | flag | environment | default | what |", "|---|---|---|---|---|"], Settings()
    for option in OPTIONS:
        value = value_of(defaults, option.name)
        shown = "–" if value is None else f"`{str(value).lower() if isinstance(value, bool) else getattr(value, 'value', value)}`"
        flags = " ".join(f"`{flag}`" for flag in (option.flag, option.off) if flag)
        variables = " ".join(f"`{name}`" for name in reversed(option.variables))
        rows.append(f"| `{option.name}` | {flags} | {variables} | {shown} | {option.help}{_choices(option.choices)} |")
    return rows


def _changes() -> list[str]:
    rows = ["| on a re-run | setting | what happens |", "|---|---|---|"]
    return rows + [f"| {change.how.value} | `{name}` | {change.text} |" for name, change in CHANGES.items()]


def _run_flags() -> list[str]:
    rows = ["| flag | environment | commands | what |", "|---|---|---|---|"]
    for flag in RUN_FLAGS:
        flags = " ".join(f"`{one}`" for one in (flag.flag, flag.off) if one)
        verbs = ", ".join(sorted(flag.verbs))
        rows.append(f"| {flags} | `{flag.variable}` | {verbs} | {flag.help}{_choices(flag.choices)} |")
    return rows


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
