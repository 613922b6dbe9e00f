"""Tables for people, one JSON or YAML document for programs, names for scripts."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

from nqrust.cli.failures import choice
from nqrust.contract.text import plain, shown_in_line
from nqrust.installer.engine.errors import UsageError

FORMATS = ("text", "wide", "json", "yaml", "name")
_DOCUMENTS = ("text", "json", "yaml")


def _one_of(value: str) -> str:
    return choice("--output", value, FORMATS)


def _document(value: str) -> str:
    return choice("--output", value, _DOCUMENTS)


Output = Annotated[str, typer.Option("-o", "--output", metavar="|".join(FORMATS), help="Output format.", callback=_one_of)]
"""Of commands that show things with names."""
Document = Annotated[str, typer.Option("-o", "--output", metavar="|".join(_DOCUMENTS), help="Output format.", callback=_document)]
"""Of commands that show facts without names."""
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print the names only, as with -o name.", show_default=False)]


def chosen(out: str, quiet: bool) -> str:
    """Return the format that --output and --quiet ask for together. Raises UsageError NQR-USE-003."""
    if not quiet:
        return out
    if out not in ("text", "name"):
        raise UsageError("NQR-USE-003", f"--quiet and --output {out} exclude each other.", "Give one of them.")
    return "name"


def document(model: BaseModel, out: str = "json") -> None:
    """Print the API's answer unchanged, as one JSON or YAML document."""
    data(model.model_dump(mode="json"), out)


def data(value: object, out: str, default: Callable[[Any], object] = dict) -> None:
    """Print a value as one JSON or YAML document. `default`: makes a JSON type of any other type."""
    text = json.dumps(value, indent=2, default=default)  # ASCII in every locale
    if out == "yaml":
        import yaml

        text = yaml.safe_dump(json.loads(text), sort_keys=False, default_flow_style=False, width=1000).rstrip("\n")
    typer.echo(text)


def listing(
    model: BaseModel,
    out: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    empty: str,
    wide: int = 0,
    name: str = "name",
) -> None:
    """Print the answer in the format that --output asked for. `wide`: number of last columns that only `-o wide` shows; `name`:
    the column that identifies a row."""
    if out in ("json", "yaml"):
        document(model, out)
    elif out == "name":
        for row in rows:
            typer.echo(cell(row[columns.index(name)]))
    else:
        shown = len(columns) - (0 if out == "wide" else wide)
        table(columns[:shown], [row[:shown] for row in rows], empty=empty, cut=out != "wide")


def details(model: BaseModel, out: str, rows: Sequence[tuple[str, object]]) -> None:
    """Print one resource in the format that --output asked for."""
    if out in ("json", "yaml"):
        document(model, out)
    elif out == "name":
        typer.echo(cell(dict(rows)["name"]))
    else:
        facts(rows)


class Done:
    """Results of a command that works on several things: a line for each as it happens, or one document at the end. The document
    lists what is done even if an error ends the command."""

    def __init__(self, out: str) -> None:
        self._out = out
        self._items: list[dict[str, object]] = []

    def __enter__(self) -> Done:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._out in ("json", "yaml") and (self._items or kind is None):
            data({"items": self._items}, self._out)

    def __call__(self, name: str, sentence: str, **more: object) -> None:
        """Report one thing that is done."""
        self._items.append({"name": name, **more})
        if self._out in ("text", "wide"):
            say(sentence)
        elif self._out == "name":
            say(name)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str, cut: bool = True) -> None:
    """Print aligned columns. `cut`: cut lines at the terminal's width. `empty`: the text without rows."""
    if not rows:
        typer.echo(empty)
        return
    texts = [[cell(value) for value in row] for row in rows]
    widths = [max(len(column), *(len(row[i]) for row in texts)) for i, column in enumerate(columns)]
    limit = _width() if cut else None
    for row in [[c.upper() for c in columns], *texts]:
        line = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        typer.echo(line if limit is None or len(line) <= limit else line[: limit - 1] + "…")


def facts(rows: Sequence[tuple[str, object]]) -> None:
    """Print aligned labels and values; leave out empty values."""
    shown = [(label, cell(value)) for label, value in rows if value not in (None, "", [])]
    width = max((len(label) for label, _ in shown), default=0)
    for label, value in shown:
        typer.echo(f"{label:<{width}}  {value}")


def cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(item) for item in value)
    # Guests and strangers may have written it, and a line of theirs would look like one of nqr's own.
    return shown_in_line(str(getattr(value, "value", value)))


def say(sentence: str, *, err: bool = False) -> None:
    """Print a line with words of others: names that a manager tells, steps that an image chose."""
    typer.echo(shown_in_line(sentence), err=err)


_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_][^\x1b]*\x1b\\|[ -/]*[0-~])")


def without_sequences(text: str) -> str:
    """Return a guest's console output without escape sequences (ECMA-48) and control characters, safe for another terminal."""
    return plain(_SEQUENCE.sub("", text).replace("\r\n", "\n").replace("\r", "\n"))


def size(count: int) -> str:
    """Return bytes for people: `24 MiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


_UNITS = {
    "": 1,
    "m": 1,
    "mb": 1,
    "mib": 1,
    "g": 1024,
    "gb": 1024,
    "gib": 1024,
    "t": 1 << 20,
    "tb": 1 << 20,
    "tib": 1 << 20,
}


def mebibytes(flag: str, text: str | None) -> int | None:
    """Convert `512`, `512M`, `2G` to MiB. Raises UsageError NQR-USE-003."""
    if text is None:
        return None
    digits = text.strip().rstrip("TGMBtgmbiI")
    unit = text.strip()[len(digits) :].lower()
    if not digits.isascii() or not digits.isdigit() or unit not in _UNITS or int(digits) == 0:
        raise UsageError(
            "NQR-USE-003",
            f"{flag} cannot be “{text}”: it must be a size in MiB.",
            f"Write a whole number of MiB, or with a unit: {flag} 512, {flag} 2G.",
        )
    return int(digits) * _UNITS[unit]


def _width() -> int | None:
    if not sys.stdout.isatty():
        return None
    import shutil

    return max(40, shutil.get_terminal_size().columns)
