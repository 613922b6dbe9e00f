"""The words that can stand at the cursor of a command line."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from typing import Any

from nqrust.cli.completion import names
from nqrust.cli.completion.scripts import FILES
from nqrust.cli.tree import SHORTCUTS, canonical, expanded

_OF_GROUP = {
    "vm": "vms", "image": "images", "host": "hosts", "volume": "volumes", "template": "templates", "token": "tokens", "user": "users",
}  # fmt: skip
"""Group -> what its arguments NAME are."""
_NEW = {"create", "add", "token"}
"""Commands whose NAME is of something new."""
_OPTIONS = {"--image": "images", "--template": "templates", "--host": "hosts", "--volume": "volumes"}
_WORDS_BREAK_AT = "=:"
"""In bash, a word for completion begins after these (COMP_WORDBREAKS)."""


def main(argv: list[str], command: Callable[[], Any]) -> int:
    """Print the answer to `nqr _complete SHELL WORDS...`. For bash, one argument is the command line up to the cursor. `command`:
    makes the tree of commands. Returns 0 and prints nothing on any error: a message would land in the user's prompt."""
    try:
        shell, *given = argv
        words = _split(given[0])[1:] if shell == "bash" else given
        lines = list(answer(command(), words or [""]))
        if shell == "bash":
            lines = [_from_the_last_break(line, words[-1] if words else "") for line in lines]
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        sys.stdout.flush()
    except Exception:
        return 0
    return 0


def answer(root: Any, words: list[str]) -> Iterator[str]:
    """Yield the lines of the answer. `words`: those after `nqr`; the last one is not complete, perhaps empty."""
    *before, current = words
    node, path, rest = _descend(root, before)
    if hasattr(node, "commands"):
        if not rest:
            yield from _group(node, path, current)
        return
    options = {name: one for one in node.params for name in (*one.opts, *one.secondary_opts) if name.startswith("-")}
    arguments, waiting = _sorted_out(rest, options)
    asks = not any(word.startswith("--manager") for word in rest)  # a half-typed address gets no token
    flag, equals, value = current.partition("=")
    if "--" in rest:
        yield FILES
    elif waiting is not None:
        yield from _values(waiting, current, "", path, arguments, asks)
    elif equals and flag in options:
        yield from _values(options[flag], value, f"{flag}=", path, arguments, asks)
    elif current.startswith("-"):
        yield from _starting(current, ((name, one.help) for name, one in options.items() if name.startswith("--")))
        yield from _starting(current, [("--help", "Show this message and exit.")])
    else:
        takes = [one for one in node.params if not one.opts[0].startswith("-")]
        if takes and (len(arguments) < len(takes) or takes[-1].nargs == -1):
            yield from _values(takes[min(len(arguments), len(takes) - 1)], current, "", path, arguments, asks)


def _descend(root: Any, before: list[str]) -> tuple[Any, list[str], list[str]]:
    """Return the command of the words, its path, and the words after it."""
    node, path, rest = root, [], expanded(root.commands, before)
    while rest and hasattr(node, "commands"):
        name = canonical(node.commands, rest[0])
        if name not in node.commands:
            break
        node, rest = node.commands[name], rest[1:]
        path.append(name)
    return node, path, rest


def _group(node: Any, path: list[str], current: str) -> Iterator[str]:
    if current.startswith("-"):
        yield from _starting(current, [("--help", "Show this message and exit."), *([] if path else [("--version", "")])])
        return
    yield from _starting(current, ((name, one.get_short_help_str(60)) for name, one in node.commands.items() if not one.hidden))
    if not path and current:
        yield from _starting(current, ((word, f"nqr {group} {name}") for word, (group, name) in _shortcuts(node)))


def _shortcuts(root: Any) -> Iterator[tuple[str, tuple[str, str]]]:
    for word, (group, name) in SHORTCUTS.items():
        if name in root.commands[group].commands:
            yield word, (group, name)


def _sorted_out(rest: list[str], options: dict[str, Any]) -> tuple[list[str], Any]:
    """Return the arguments among the words, and the option whose value is next, or None."""
    arguments: list[str] = []
    waiting: Any = None
    for word in rest:
        if waiting is not None:
            waiting = None
        elif not word.startswith("-"):
            arguments.append(word)
        elif "=" not in word and word in options and not getattr(options[word], "is_flag", False):
            waiting = options[word]
    return arguments, waiting


def _values(parameter: Any, current: str, before: str, path: list[str], arguments: list[str], asks: bool) -> Iterator[str]:
    """Yield the values of an option or argument: its choices, names from the manager, or files."""
    metavar = parameter.metavar or ""
    if metavar.split("|")[-1] in ("FILE", "DIR"):
        yield FILES
        return
    choices = metavar.strip("[].").split("|") if "|" in metavar and metavar == metavar.lower() else _fixed(path, parameter.name)
    kind = _kind(parameter, path, arguments)
    found = [*choices, *(names.of(kind, arguments) if kind and asks else ())]
    yield from _starting(before + current, ((before + name, "") for name in found if name not in arguments))


def _kind(parameter: Any, path: list[str], arguments: list[str]) -> str:
    if parameter.opts[0].startswith("-"):
        return next((_OPTIONS[name] for name in parameter.opts if name in _OPTIONS), "")
    if path[:2] == ["vm", "snapshot"]:
        return "vms" if not arguments else "snapshots" if path[-1] in ("restore", "rm") else ""
    if path == ["logs"]:
        return "vms"
    if path == ["vm", "adopt"]:
        return "unknown"
    if parameter.name == "vm":
        return "vms"
    return _OF_GROUP.get(path[0], "") if parameter.name in ("name", "names") and path[-1] not in _NEW else ""


def _fixed(path: list[str], name: str) -> list[str]:
    """Return the choices of an argument that has no list in its help."""
    from nqrust.contract.names import UNITS
    from nqrust.installer.phases.order import PHASES, ROTATED

    fixed = {
        ("phase", "run", "name"): PHASES, ("rotate", "names"): ROTATED, ("logs", "service"): (*UNITS, "install", "all"),
        ("image", "build", "name"): ("tiny", "container-runtime"), ("completion", "shell"): ("bash", "zsh", "fish"),
    }  # fmt: skip
    return list(fixed.get((*path, name), ()))


def _starting(current: str, known: Any) -> Iterator[str]:
    for word, help in known:
        if word.startswith(current):
            yield f"{word}\t{' '.join((help or '').split())}"


def _split(line: str) -> list[str]:
    """Split a line as a shell does. The last word may be empty, or lack its closing quote."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    found: list[str] = []
    try:
        found += list(lexer)
    except ValueError:
        return [*found, lexer.token]
    return [*found, ""] if not line or line[-1].isspace() else found


def _from_the_last_break(line: str, current: str) -> str:
    cut = max((current.rfind(sign) for sign in _WORDS_BREAK_AT), default=-1) + 1
    return line if line == FILES else line[cut:]
