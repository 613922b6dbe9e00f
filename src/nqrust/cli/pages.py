"""Help pages of groups and commands: usage as in manual pages, whole sentences, and options below the heading of their kind."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperCommand

_NOTES = re.compile(r"\s*\(([^()]*)\)$")
"""Matches the parentheses at the end of a help text."""


class Command(TyperCommand):
    """A command with a readable help page."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        given = [usage(one) for one in self.get_params(ctx) if is_argument(one)]
        return ["[OPTIONS]", *given]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        parameters: list[Any] = self.get_params(ctx)
        for one in parameters:
            if one.hidden:
                continue
            if is_argument(one):
                sections.setdefault("Arguments", []).append((one.metavar or one.name.upper(), described(one)))
                continue
            names, _ = one.get_help_record(ctx)
            sections.setdefault(one.rich_help_panel or "Options", []).append((names, described(one)))
        # Arguments come first, also where a required option precedes them in Python.
        for heading, rows in sorted(sections.items(), key=lambda section: section[0] != "Arguments"):
            with formatter.section(heading):
                formatter.write_dl(rows)


class OfAnother(Command):
    """A command whose second argument begins the command line of another program: options after it are that program's."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        options = {
            name: getattr(one, "is_flag", False) for one in self.get_params(ctx) if not is_argument(one) for name in one.opts
        }
        return super().parse_args(ctx, separated(args, {name for name, is_flag in options.items() if not is_flag}))


def separated(words: list[str], with_value: set[str]) -> list[str]:
    """Return the words with `--` before the second argument, if there is none yet. `with_value`: options that take a value."""
    arguments, at = 0, 0
    while at < len(words) and words[at] != "--":
        word = words[at]
        if not word.startswith("-") or word == "-":
            arguments += 1
            if arguments == 2:
                return [*words[:at], "--", *words[at:]]
        elif word in with_value:
            at += 1
        at += 1
    return words


def is_argument(parameter: Any) -> bool:
    return not parameter.opts[0].startswith("-")


def described(parameter: Any) -> str:
    """Return the help of an option or argument as sentences: with its default, its range, and whether it is required."""
    help = " ".join((parameter.help or "").split()).removesuffix(".")
    said = _NOTES.search(help) if "default" in help else None
    notes = [said[1]] if said else []
    if "default" not in help:
        notes += _default(parameter)
    notes += _range(parameter)
    if parameter.required and not is_argument(parameter):
        notes.append("required")
    if said:
        help = help[: said.start()]
    return f"{help} ({'; '.join(notes)})." if notes else f"{help}." if help else ""


def _default(parameter: Any) -> list[str]:
    default = parameter.default
    if default is True and parameter.secondary_opts:
        return ["default: yes"]
    if default in (None, False, True, "", [], ()) or callable(default) or not parameter.show_default:
        return []
    return [f"default: {default:g}" if isinstance(default, float) else f"default: {default}"]


def _range(parameter: Any) -> list[str]:
    """A lower end alone says nothing that people do not expect."""
    least, most = getattr(parameter, "min", None), getattr(parameter, "max", None)
    return [] if most is None else [f"{least} to {most}"]


def usage(argument: Any) -> str:
    """Return the argument as manual pages write it: `NAME`, `[NAME]`, `NAME...` or `[NAME]...`; man-pages(7)."""
    name = argument.metavar or argument.name.upper()
    return f"{name if argument.required else f'[{name}]'}{'...' if argument.nargs == -1 else ''}"


def write_commands(group: Any, ctx: Any, formatter: Any) -> None:
    """Write the commands of a group with the whole first sentence of each."""
    rows = [(name, one.get_short_help_str(1000)) for name in group.list_commands(ctx) if not (one := group.commands[name]).hidden]
    with formatter.section("Commands"):
        formatter.write_dl(rows)
