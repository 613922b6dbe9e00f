"""Command lines as text, held against the real command tree of `nqr`."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from nqrust.cli.app import command
from nqrust.cli.tree import canonical, expanded

SCRIPTS = {"install.sh": "install", "uninstall.sh": "uninstall", "verify-clean.sh": "verify-clean", "bundle.sh": "bundle build"}
"""Each hands its arguments to that verb of `nqr`."""
_ASSIGNMENT = re.compile(r"[A-Z_][A-Z0-9_]*=")
_PLACEHOLDERS = (("‹", "›"), ("{", "}"))
_END = re.compile(r"[.,;:)]+$")


@cache
def tree() -> Any:
    return command()


def words_of(line: str) -> list[str] | None:
    """The words after `nqr` of a command line, scripts taken for the verb that they are; None when it is another program's."""
    line = line.split(" | ")[0].split(" && ")[0]
    try:
        words = shlex.split(line.replace("…", "VALUE"))
    except ValueError:
        return None
    while words and (words[0] == "sudo" or _ASSIGNMENT.match(words[0])):
        words = words[1:]
    words = [word for word in words if word not in ("|",)]
    if ">" in words:
        words = words[: words.index(">")]
    if not words:
        return None
    name = words[0].rsplit("/", 1)[-1]
    if name in SCRIPTS:
        return [*SCRIPTS[name].split(), *words[1:]]
    return words[1:] if name == "nqr" else None


def problem(words: list[str], *, complete: bool, prose: bool = False) -> str:
    """What is wrong with it; empty when nothing is. `complete`: all that the command requires must be there too. `prose`: words
    of the sentence may follow."""
    node, rest = tree(), list(words)
    while hasattr(node, "commands"):
        options = {name for parameter in node.params for name in (*parameter.opts, *parameter.secondary_opts)}
        while rest and rest[0].startswith("-"):
            if rest.pop(0) not in options | {"-h", "--help"}:
                return f"no option {rest[0]}"
        if not rest:
            return "" if not complete or options else "no command"
        if not complete and (rest[0].isupper() or rest[0].startswith("{")):
            return ""
        rest = expanded(node.commands, rest) if node is tree() else rest
        name = canonical(node.commands, rest[0])
        if name not in node.commands:
            return f"no command {rest[0]}"
        node, rest = node.commands[name], rest[1:]
    return _arguments(node, [word for word in rest if word.startswith("-")] if prose else rest, complete)


def _arguments(node: Any, rest: list[str], complete: bool) -> str:
    options = {name: one for one in node.params for name in (*one.opts, *one.secondary_opts) if name.startswith("-")}
    takes = [one for one in node.params if not any(name.startswith("-") for name in one.opts)]
    given: set[str] = set()
    positional = 0
    while rest:
        word = rest.pop(0)
        if word in ("-h", "--help"):
            return ""
        if word == "--":  # the rest is a command of another program
            positional += len(rest)
            break
        if len(word) > 2 and word[0] == "-" != word[1] and {f"-{letter}" for letter in word[1:]} <= options.keys():
            rest[:0] = [f"-{letter}" for letter in word[1:]]
            continue
        name, equals, value = word.partition("=")
        if not word.startswith("-") or word == "-":
            positional += 1
            continue
        if name not in options:
            return f"no option {name}"
        option = options[name]
        given.add(option.name)
        if getattr(option, "is_flag", False) or getattr(option, "count", False):
            continue
        if not equals:
            if not rest or (not complete and rest[0].startswith("-")):
                if complete:
                    return f"{name} lacks its value"
                continue
            value = rest.pop(0)
        allowed = (option.metavar or "").split("|")
        if len(allowed) > 1 and "".join(allowed).islower() and not set(value.split("|")) <= set(allowed) and not value.isupper():
            return f"{name} cannot be {value}"
    most = sum(one.nargs if one.nargs > 0 else 99 for one in takes)
    least = sum(1 for one in takes if one.required)
    if positional > most:
        return f"{positional} arguments, but it takes {most}"
    if complete and positional < least:
        return f"{positional} arguments, but it needs {least}"
    lacking = [one.opts[0] for one in options.values() if one.required and one.name not in given]
    return f"{lacking[0]} is required" if complete and lacking else ""


def mentions(prose: str) -> Iterator[list[str]]:
    """Commands that a sentence names without quoting them: `nqr`, a command that exists, and the words up to a full stop."""
    for match in re.finditer(r"(?<![\w/-])nqr ((?!does|did|knows)[a-z-]+\b.*)", prose):
        words: list[str] = []
        for word in match[1].split():
            words.append(_END.sub("", word).strip("`'\""))
            if _END.search(word) or "`" in word:
                break
        if words[0] in tree().commands:
            yield words


def messages(source: Path) -> Iterator[str]:
    """Every string of a module that is no docstring; what is filled in becomes VALUE."""
    text = source.read_text()
    if "nqr " not in text and ".sh" not in text:
        return  # reading it is cheap, parsing is not
    whole = ast.parse(text)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(whole)
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    parts = {id(value) for node in ast.walk(whole) if isinstance(node, ast.JoinedStr) for value in node.values}
    for node in ast.walk(whole):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(one.value) if isinstance(one, ast.Constant) else "VALUE" for one in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings | parts:
            yield node.value


def plain(line: str) -> str:
    """A command with what stands for something else as one word: `‹PATH›` and `{path}` become VALUE."""
    for opening, closing in _PLACEHOLDERS:
        line = re.sub(f"{re.escape(opening)}[^{re.escape(closing)}]*{re.escape(closing)}", "VALUE", line)
    return line
