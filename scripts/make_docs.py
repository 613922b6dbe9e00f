#!/usr/bin/env python3
"""Writes what comes from the program: docs/reference/cli.md, config.schema.json, the tables in settings.md, and in
error-codes.md each description and cure that the source spells out.

    .venv/bin/python scripts/make_docs.py

A test compares the pages with the program (tests/unit/documentation/test_generated_pages.py).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from nqrust.cli.app import command
from nqrust.cli.install.config import render_schema
from nqrust.cli.pages import described
from nqrust.installer.distro import registry
from nqrust.installer.preflight.changes import CHANGES
from nqrust.installer.settings.model import Settings
from nqrust.installer.settings.options import OPTIONS, RUN_FLAGS
from nqrust.installer.settings.record import value_of

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
from error_texts import Entry, Source, of_shell  # noqa: E402

REFERENCE = ROOT / "docs" / "reference"
_TABLE = re.compile(r"^\|.*\n(?:\|.*\n)+", re.MULTILINE)
_SHOWN_ELSEWHERE = frozenset({"help"})
_INSTALLS = (("install",), ("plan",), ("phase", "run"), ("config", "show"), ("config", "validate"))
_RUNS = (*_INSTALLS, ("uninstall",), ("rollback",), ("verify",))
_SHARED = tuple(f"| `{one.flag}`" for one in (*OPTIONS, *RUN_FLAGS))
"""How the rows of flags begin that settings.md lists."""


def pages() -> dict[Path, str]:
    """Each generated file with its text."""
    settings, errors = REFERENCE / "settings.md", REFERENCE / "error-codes.md"
    return {
        REFERENCE / "cli.md": cli(),
        settings: with_tables(settings.read_text()),
        REFERENCE / "config.schema.json": render_schema(),
        errors: with_errors(errors.read_text()),
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
    yield f"| {_cell(shown + value)} | {_cell(described(parameter))} |"


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


# --- the error codes

_SECTION = re.compile(r"^### (NQR-[A-Z]{2,}-\d{3})\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
_ENTRY = re.compile(r"\*\*What\.\*\*(.*?)(?:\*\*Why\.\*\*.*?)?\*\*Cure\.\*\*(.*?)(?=\n- |\n\n|\Z)", re.DOTALL)
_WHY = re.compile(r"\*\*Why\.\*\*.*?(?=\n\n|\*\*Cure|\Z)", re.DOTALL)
_MADE = {"NQR-PRE-002": registry.advice()}
"""Cures that the program makes from a table."""


def with_errors(page: str) -> str:
    """The page with an entry for each description and cure that the source spells out.

    Where the source has only one of the two in words, the page words the other. An entry that the source does not have goes,
    unless an error of that code has neither in words.
    """
    known = spelled_out()

    def rewritten(section: re.Match[str]) -> str:
        code, text = section[1], section[2]
        source = known.get(code, ())
        there = [Entry(what.strip(), cure.strip()) for what, cure in _ENTRY.findall(text)]
        if code in _MADE:
            there = [Entry(entry.what, _MADE[code]) for entry in there]
        kept = [entry for entry in there if not source or any(_fits(entry, one) for one in source)]
        wanted = {_plain(one): one for one in source if not any(_fits(entry, one) for entry in kept)}
        first = there[0] if there else Entry("‹message›", "See the message.")
        missing = [Entry(one.what or first.what, one.cure or first.cure) for one in wanted.values()]
        whole = [*kept, *missing]
        found = [Entry(what.strip(), cure.strip()) for what, cure in _ENTRY.findall(text)]
        return section[0] if whole == found else f"### {code}\n\n{_entries(whole, _WHY.findall(text))}\n"

    return _SECTION.sub(rewritten, page)


@cache
def spelled_out() -> dict[str, tuple[Entry, ...]]:
    """Entries of each code in the sources."""
    found: dict[str, list[Entry]] = {}
    for code, entry in Source(ROOT / "src", ROOT / "scripts" / "install", ROOT / "scripts" / "packages").entries():
        found.setdefault(code, []).append(entry)
    for path in sorted(path for name in ("install", "packages") for path in (ROOT / "scripts" / name).glob("*.sh")):
        for code, entry in of_shell(path.read_text()):
            found.setdefault(code, []).append(entry)
    return {code: tuple(entries) for code, entries in found.items()}


def _fits(shown: Entry, source: Entry) -> bool:
    """Whether an entry of the page says what a place of the source says, where that place says anything."""
    pairs = ((shown.what, source.what), (shown.cure, source.cure))
    return all(theirs is None or _plain_text(mine) == _plain_text(theirs) for mine, theirs in pairs)


def _plain(entry: Entry) -> tuple[str, str]:
    return _plain_text(entry.what), _plain_text(entry.cure)


def _plain_text(text: str | None) -> str:
    """A text without what the page may choose: names of values, code marks and spaces."""
    return re.sub(r"\s+", " ", re.sub(r"(?:‹[^›]*›)+", "‹›", (text or "").replace("`", ""))).strip()


def _entries(entries: list[Entry], whys: list[str]) -> str:
    if len(entries) == 1:
        return (
            "\n\n".join([f"**What.** {entries[0].what}", *(why.strip() for why in whys), f"**Cure.** {entries[0].cure}"]) + "\n"
        )
    lines = "\n".join(f"- **What.** {one.what} **Cure.** {one.cure}" for one in entries)
    return "\n\n".join([lines, *(why.strip() for why in whys)]) + "\n"


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
