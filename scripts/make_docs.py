#!/usr/bin/env python3
"""Writes what comes from the program: docs/reference/cli.md, config.schema.json, the tables in settings.md, and in
error-codes.md each description and cure that the source spells out.

    .venv/bin/python scripts/make_docs.py

A test compares the pages with the program (tests/unit/documentation/test_generated_pages.py).
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nqrust.cli.app import command
from nqrust.cli.install.config import render_schema
from nqrust.installer.distro import registry
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


# --- the error codes

_CODE = re.compile(r"NQR-[A-Z]{2,}-\d{3}")
_SECTION = re.compile(r"^### (NQR-[A-Z]{2,}-\d{3})\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
_ENTRY = re.compile(r"\*\*What\.\*\*(.*?)(?:\*\*Why\.\*\*.*?)?\*\*Cure\.\*\*(.*?)(?=\n- |\n\n|\Z)", re.DOTALL)
_WHY = re.compile(r"\*\*Why\.\*\*.*?(?=\n\n|\*\*Cure|\Z)", re.DOTALL)
_MADE = {"NQR-PRE-002": registry.advice()}
"""Cures that the program makes from a table."""
Entry = tuple[str, str]
"""What and cure, with `‹…›` for each value of the message."""


def with_errors(page: str) -> str:
    """The page with an entry for each error whose description and cure stand in the source.

    An entry written by hand stays if the code is also raised with a text that is made elsewhere.
    """
    spelled, elsewhere = spelled_out()

    def rewritten(section: re.Match[str]) -> str:
        code, text = section[1], section[2]
        wanted = {_plain(entry): entry for entry in spelled.get(code, ())}
        there = [(what.strip(), cure.strip()) for what, cure in _ENTRY.findall(text)]
        kept = [entry for entry in there if _plain(entry) in wanted or code in elsewhere]
        if code in _MADE:
            kept = [(what, _MADE[code]) for what, _ in kept]
        missing = [entry for plain, entry in wanted.items() if plain not in map(_plain, kept)]
        return (
            section[0] if kept == there and not missing else f"### {code}\n\n{_entries([*kept, *missing], _WHY.findall(text))}\n"
        )

    return _SECTION.sub(rewritten, page)


def spelled_out() -> tuple[dict[str, list[Entry]], set[str]]:
    """Entries of each code from calls like `Error(CODE, what, cure)`, and the codes that other places name too."""
    spelled: dict[str, list[Entry]] = {}
    named: Counter[str] = Counter()
    for path in sorted(path for folder in ("src", "scripts/install") for path in (ROOT / folder).rglob("*") if path.is_file()):
        if path.suffix == ".pyc":
            continue
        if path.suffix != ".py":
            named.update(_CODE.findall(path.read_text(errors="ignore")))
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and _CODE.fullmatch(node.value):
                named[node.value] += 1
            if isinstance(node, ast.Call) and len(node.args) >= 3 and (entry := _entry(node.args)):
                spelled.setdefault(entry[0], []).append(entry[1:])
    return spelled, {code for code, times in named.items() if times > len(spelled.get(code, ()))}


def _entry(arguments: list[ast.expr]) -> tuple[str, str, str] | None:
    for at, argument in enumerate(arguments[:-2]):
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str) and _CODE.fullmatch(argument.value):
            what, cure = _literal(arguments[at + 1]), _literal(arguments[at + 2])
            return (argument.value, what, cure) if what and cure else None
    return None


def _literal(node: ast.expr) -> str:
    """A text with `‹name›` for its values; empty where it is no literal."""
    if isinstance(node, ast.Constant):
        return str(node.value or "")
    if isinstance(node, ast.JoinedStr):
        return "".join(_literal(part) if isinstance(part, ast.Constant) else f"‹{_value_name(part)}›" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _literal(node.left), _literal(node.right)
        return left + right if left and right else ""
    return ""


def _value_name(part: ast.expr) -> str:
    """The last name of an expression that is no function."""
    called = {id(call.func) for call in ast.walk(part) if isinstance(call, ast.Call)}
    for node in ast.walk(part):
        if isinstance(node, (ast.Name, ast.Attribute)) and id(node) not in called:
            return (node.attr if isinstance(node, ast.Attribute) else node.id).strip("_").replace("_", " ").lower()
    return "…"


def _plain(entry: Entry) -> Entry:
    """An entry without what the page may choose: names of values, code marks and spaces."""
    what, cure = (re.sub(r"\s+", " ", re.sub(r"(?:‹[^›]*›)+", "‹›", text.replace("`", ""))).strip() for text in entry)
    return what, cure


def _entries(entries: list[Entry], whys: list[str]) -> str:
    if len(entries) == 1:
        return "\n\n".join([f"**What.** {entries[0][0]}", *(why.strip() for why in whys), f"**Cure.** {entries[0][1]}"]) + "\n"
    lines = "\n".join(f"- **What.** {what} **Cure.** {cure}" for what, cure in entries)
    return "\n\n".join([lines, *(why.strip() for why in whys)]) + "\n"


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
