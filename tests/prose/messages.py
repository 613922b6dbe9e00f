"""Texts of a module that people read, found in its syntax tree, each with its line."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ALL_TEXTS = ("src/nqrust/ui/", "src/nqrust/installer/reporting/")
"""Modules in which each string of three words is shown to somebody."""
_SHOWN = frozenset({"help", "cure", "detail", "what", "title", "message", "epilog"})
"""Keywords, parameters and class attributes whose texts are shown."""
_RECORDED = frozenset({"record"})
_NOT_SHOWN = frozenset({"debug", "info", "warning", "error", "exception"})
"""Methods of a log, whose first argument is the name of an event and no sentence."""


def texts(path: Path, file: str, errors: frozenset[str]) -> Iterator[tuple[int, str]]:
    """(line, text) of each message. `errors`: names of the classes whose arguments are messages."""
    tree = ast.parse(path.read_text())
    hidden = _docstrings(tree)
    shown: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            shown |= {id(part) for argument in _arguments(node, errors) for part in _strings(argument)}
        elif isinstance(node, ast.ClassDef):
            shown |= {id(part) for one in node.body for part in _attribute(one)}
    everything = file.startswith(ALL_TEXTS)
    for node in _strings(tree):
        text = flat(node)
        if id(node) in hidden or len(text.split()) < 3 or "\n" in text.strip() or "</" in text:
            continue
        if id(node) in shown or everything or _is_sentence(text):
            yield node.lineno, text
    if file.startswith("src/nqrust/cli/"):
        yield from _command_help(tree)


def error_classes(sources: list[Path]) -> frozenset[str]:
    """Names of all exceptions, and of the functions that make findings of preflight."""
    bases: dict[str, set[str]] = {}
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.ClassDef):
                bases.setdefault(node.name, set()).update(ast.unparse(base).rsplit(".", 1)[-1] for base in node.bases)
    known = {"Exception"}
    while more := {name for name, parents in bases.items() if parents & known} - known:
        known |= more
    return frozenset(known | {"Finding"})


def flat(node: ast.AST) -> str:
    """The text, with X for each value that is filled in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else ""


def _strings(tree: ast.AST) -> Iterator[ast.JoinedStr | ast.Constant]:
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) or (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner
        ):
            yield node


def _arguments(call: ast.Call, errors: frozenset[str]) -> Iterator[ast.AST]:
    name = ast.unparse(call.func).rsplit(".", 1)[-1]
    if name in errors or name in _RECORDED:
        yield from call.args
    for keyword in call.keywords:
        if keyword.arg in _SHOWN:
            yield keyword.value


def _attribute(node: ast.stmt) -> Iterator[ast.AST]:
    if isinstance(node, ast.Assign) and any(isinstance(one, ast.Name) and one.id in _SHOWN for one in node.targets):
        yield from _strings(node.value)


def _is_sentence(text: str) -> bool:
    first = text.lstrip("`“‹")[:1]
    return first.isupper() and text.rstrip()[-1:] in ".?!" and " " in text.strip()


def _docstrings(tree: ast.AST) -> set[int]:
    """Strings that stand alone: docstrings of modules, classes, functions and attributes."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def _command_help(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Docstrings that the command line shows as help: of functions with a decorator `...command(...)`, and of those that
    take Annotated options."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef) or not ast.get_docstring(node):
            continue
        decorated = any(".command" in ast.unparse(one) for one in node.decorator_list)
        if decorated:
            yield node.lineno + 1, ast.get_docstring(node) or ""
