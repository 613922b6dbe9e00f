"""Descriptions and cures of errors, read from the source without running it.

An error is a call that has a code: `UsageError(CODE, what, cure)`, `warning(CODE, what)`, `Conflict(what, cure=…, code=CODE)`,
or a class whose attributes are its `code` and usual `cure`. A text may be a literal, a constant, a variable of the function, a
choice between these, or an argument that the callers in the same module give. Each value in a text becomes `‹name›`.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

CODE = re.compile(r"NQR-[A-Z]{2,}-\d{3}")
_VALUE = re.compile(r"[‹›…\W]*(?:‹[^›]*›[‹›…\W]*)+")
_DEPTH = 3
_SHELL = re.compile(r"\bfail(?:ed)? (NQR-[A-Z]{2,}-\d{3}) (?:\d )?(.*)")
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
_ASSIGNED = re.compile(r"^(\w+)=([\w./-]+)(?: #.*)?$", re.MULTILINE)


@dataclass(frozen=True)
class Entry:
    """A description and a cure, with `‹…›` for values. None: this place does not spell it out."""

    what: str | None
    cure: str | None


@dataclass
class Module:
    """A parsed file: its constants, imported names and functions."""

    tree: ast.Module
    constants: dict[str, list[ast.expr]] = field(default_factory=dict)
    imported: dict[str, tuple[str, str]] = field(default_factory=dict)
    """local name -> module and name in it"""
    classes: dict[str, Class] = field(default_factory=dict)


@dataclass
class Class:
    """An error class: its attributes, and the arguments that make one, with the default of the first."""

    module: Module
    attributes: dict[str, ast.expr]
    bases: list[str]
    arguments: list[str] | None = None
    default: ast.expr | None = None
    spelled: bool = False
    """It gives its own description to the class above."""


@dataclass(frozen=True)
class Scope:
    """Where a text stands: module, enclosing function and line in it, and its arguments as one caller gives them."""

    module: Module
    function: ast.FunctionDef | ast.AsyncFunctionDef | None = None
    line: int = 0
    given: tuple[tuple[str, ast.expr, Scope], ...] = ()


class Source:
    """All Python files below some folders."""

    def __init__(self, *folders: Path) -> None:
        self.modules: dict[str, Module] = {}
        for folder in folders:
            for path in sorted(folder.rglob("*.py")):
                name = ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")
                self.modules[name] = self._read(ast.parse(path.read_text()))
        self.calls: dict[str, list[tuple[ast.Call, Scope]]] = {}
        """function -> its calls"""
        for module in self.modules.values():
            for node, scope, _ in _nodes(module):
                if isinstance(node, ast.Call) and (name := _called(node)):
                    self.calls.setdefault(name, []).append((node, scope))

    def _read(self, tree: ast.Module) -> Module:
        found = Module(tree)
        for node in tree.body:
            for name, value in _assigned(node):
                found.constants.setdefault(name, []).append(value)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                found.imported |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
            elif isinstance(node, ast.ClassDef):
                attributes = {name: value for one in node.body for name, value in _assigned(one)}
                made = Class(found, attributes, [base.id for base in node.bases if isinstance(base, ast.Name)])
                for one in node.body:
                    if isinstance(one, ast.FunctionDef) and one.name == "__init__":
                        calls = [part for part in ast.walk(one) if isinstance(part, ast.Call) and _is_super(part) and part.args]
                        made.spelled = any(any(map(_worded, self.texts(part.args[0], Scope(found)))) for part in calls)
                        made.arguments = [argument.arg for argument in one.args.args[1:]]
                        made.default = one.args.defaults[0] if len(one.args.defaults) == len(made.arguments) > 0 else None
                        own = {name.removeprefix("self."): value for part in ast.walk(one) for name, value in _assigned(part)}
                        made.attributes = {**own, **attributes}
                found.classes[node.name] = made
        return found

    # --- texts
    def texts(self, node: ast.expr | None, scope: Scope, depth: int = _DEPTH) -> list[str]:
        """Return each text that an expression can be; none if one of them is not spelled out."""
        if isinstance(node, ast.Constant):
            return [node.value] if isinstance(node.value, str) else []
        if isinstance(node, ast.JoinedStr):
            return ["".join(self._part(part, scope) for part in node.values)]
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return [a + b for a, b in product(self.texts(node.left, scope, depth), self.texts(node.right, scope, depth))]
        if isinstance(node, ast.IfExp):
            found = self._all([node.body, node.orelse], scope, depth)
            return [text for text in found if text] or found
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or):  # a text that is computed, or else one that is not
            return [text for one in node.values for text in self.texts(one, scope, depth) if text]
        if isinstance(node, ast.Name | ast.Attribute) and depth:
            for values, place in self._values(node, scope):
                if texts := self._all(values, place, depth - 1):
                    return texts
        return []

    def _part(self, part: ast.expr, scope: Scope) -> str:
        """Return a part of a text: a constant of the program by its value, any other value by its name."""
        if isinstance(part, ast.Constant):
            return str(part.value)
        value = part.value if isinstance(part, ast.FormattedValue) else part
        name = value.id if isinstance(value, ast.Name) else value.attr if isinstance(value, ast.Attribute) else ""
        given = name in {argument for argument, _, _ in scope.given}
        texts = self.texts(value, scope) if name.isupper() or given else []
        told = len(texts) == 1 and (name.isupper() or " " in texts[0])  # a caller's clause, but not its single word
        return texts[0] if told else f"‹{value_name(part)}›"

    def _all(self, nodes: list[ast.expr], scope: Scope, depth: int) -> list[str]:
        found = [self.texts(node, scope, depth) for node in nodes]
        return [text for texts in found for text in texts] if all(found) else []

    def _values(self, node: ast.Name | ast.Attribute, scope: Scope) -> Iterator[tuple[list[ast.expr], Scope]]:
        if isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id in scope.module.imported:
                where = self.modules.get(".".join(scope.module.imported[node.value.id]))
                if where and node.attr in where.constants:
                    yield where.constants[node.attr], Scope(where)
            return
        given = [(value, place) for name, value, place in scope.given if name == node.id]
        if given:
            yield [given[0][0]], given[0][1]
        elif scope.function is not None and (local := _reaching(scope.function.body, node.id, scope.line)[0]):
            yield local, scope
        elif node.id in scope.module.constants:
            yield scope.module.constants[node.id], Scope(scope.module)
        elif node.id in scope.module.imported:
            module, name = scope.module.imported[node.id]
            where = self.modules.get(module)
            if where and name in where.constants:
                yield where.constants[name], Scope(where)

    # --- errors
    def entries(self) -> Iterator[tuple[str, Entry]]:
        """Yield code and entry of each place that raises or reports an error."""
        for module in self.modules.values():
            unpacked = {
                id(node.value)
                for node in ast.walk(module.tree)
                if isinstance(node, ast.Assign) and not any(isinstance(one, ast.Attribute) for one in ast.walk(node.targets[0]))
            }
            for node, scope, owner in _nodes(module):
                if isinstance(node, ast.Call):
                    for place in self._callers(node, scope, _DEPTH):
                        yield from self._of_call(node, place, owner)
                elif isinstance(node, ast.Tuple) and len(node.elts) == 2 and id(node) not in unpacked:  # a code with its cure
                    for code in self._codes(node.elts[0], scope):
                        for cure in (text for text in self.texts(node.elts[1], scope) if not CODE.fullmatch(text)):
                            yield code, Entry(None, cure)

    def _of_call(self, node: ast.Call, scope: Scope, owner: str) -> Iterator[tuple[str, Entry]]:
        named = {word.arg: word.value for word in node.keywords if word.arg}
        for at, argument in enumerate(node.args):
            if codes := self._codes(argument, scope):
                after: list[ast.expr | None] = [*node.args[at + 1 :], *(v for name, v in named.items() if name == "cure")]
                shape = node.func.id if isinstance(node.func, ast.Name) else ""
                before = {"Notice": node.args[at - 1], "Hop": None}  # the text stands before the code, or is made by the proof
                what, cure = [before[shape], *after, None][:2] if shape in before else [*after, None, None][:2]
                yield from self._entries(codes, what, cure, scope)
                return
        name = owner if _is_super(node) else node.func.id if isinstance(node.func, ast.Name) else ""
        lineage = self._lineage(scope.module, name)
        if not (mine := _attribute(lineage, "code")):
            return
        made = next((one for one in lineage if one.arguments is not None), None)
        given = dict(zip((made.arguments if made else None) or ["what"], node.args, strict=False)) | named
        if made and made.spelled and not _is_super(node):
            return
        what = node.args[0] if node.args else made.default if made else None
        if not any(map(_worded, self.texts(what, scope))) and (_is_super(node) or not node.args):
            return  # a class hands on what its callers give
        codes = self._codes(given.get("code") or mine, scope)
        cure = given.get("cure") or _attribute(lineage, "cure")
        yield from self._entries(codes, what, cure, scope)

    def _lineage(self, module: Module, name: str) -> list[Class]:
        """Return an error class and those that it is made of, itself first."""
        while name not in module.classes and name in module.imported and module.imported[name][0] in self.modules:
            origin, name = module.imported[name]
            module = self.modules[origin]
        if name not in module.classes:
            return []
        found = module.classes[name]
        return [found, *(one for base in found.bases if base != name for one in self._lineage(module, base))]

    def _entries(
        self, codes: list[str], what: ast.expr | None, cure: ast.expr | None, scope: Scope
    ) -> Iterator[tuple[str, Entry]]:
        descriptions, cures = (
            [text if _worded(text) else None for text in self.texts(node, scope)] or [None] for node in (what, cure)
        )
        pairs = zip(descriptions, cures, strict=True) if len(descriptions) == len(cures) else product(descriptions, cures)
        yield from ((code, Entry(*pair)) for pair in list(pairs) for code in codes)

    def _codes(self, node: ast.expr, scope: Scope) -> list[str]:
        return [text for text in self.texts(node, scope) if CODE.fullmatch(text)] if not isinstance(node, ast.JoinedStr) else []

    def _callers(self, node: ast.Call, scope: Scope, depth: int) -> list[Scope]:
        """Return the scope once for each call of its function, if the error takes an argument of it."""
        function = scope.function
        if function is None or function.name == "__init__" or not depth:
            return [scope]
        names = [argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)]
        if not _plain_names(node) & set(names):
            return [scope]
        found = []
        for call, place in self.calls.get(function.name, ()):
            bound = isinstance(call.func, ast.Attribute) and names[:1] == ["self"]
            if place.function is function or not self._same(call.func, place.module, scope.module, bound):
                continue
            positional = names[1:] if bound else names
            defaults = function.args.defaults
            given = dict(zip(names[len(function.args.args) - len(defaults) :], defaults, strict=False))
            given |= dict(zip(positional, call.args, strict=False)) | {w.arg: w.value for w in call.keywords if w.arg}
            for outer in self._callers(call, place, depth - 1):
                found.append(replace(scope, given=tuple((name, value, outer) for name, value in given.items())))
        return found or [scope]

    def _same(self, called: ast.expr, here: Module, there: Module, bound: bool) -> bool:
        """Return whether a call in one module means the function of that name in another."""
        if isinstance(called, ast.Name):
            origin = here.imported.get(called.id)
            return self.modules.get(origin[0]) is there if origin else here is there
        if bound or not (isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name)):
            return here is there
        return self.modules.get(".".join(here.imported.get(called.value.id, ("", "")))) is there


def of_shell(text: str) -> Iterator[tuple[str, Entry]]:
    """Yield the errors of a shell script: `fail CODE STATUS what cure` and `failed CODE what cure`."""
    constants = dict(_ASSIGNED.findall(text))

    def value(name: re.Match[str]) -> str:
        return constants.get(name[1], f"‹{name[1].lower()}›")

    for match in _SHELL.finditer(text.replace("\\\n", " ").replace("\\`", "`")):
        try:
            words = shlex.split(match[2].partition(" ;;")[0])
        except ValueError:
            continue
        what, cure = (_VARIABLE.sub(value, word) for word in [*words, "", ""][:2])
        yield match[1], Entry(what or None, cure or None)


def _attribute(lineage: list[Class], name: str) -> ast.expr | None:
    return next((one.attributes[name] for one in lineage if name in one.attributes), None)


def _worded(text: str) -> bool:
    """Return whether a text has words of its own beside its values."""
    return bool(text) and not _VALUE.fullmatch(text)


def value_name(part: ast.expr) -> str:
    """Return the last name of an expression that is no function."""
    called = {id(call.func) for call in ast.walk(part) if isinstance(call, ast.Call)}
    for node in ast.walk(part):
        if isinstance(node, ast.Name | ast.Attribute) and id(node) not in called:
            name = (node.attr if isinstance(node, ast.Attribute) else node.id).strip("_").replace("_", " ").lower()
            return "reason" if name in ("error", "strerror") else name
    return "…"


def _assigned(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
        yield node.target.id, node.value
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Name):
                yield target.id, node.value
            elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self":
                yield f"self.{target.attr}", node.value
            elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = zip(target.elts, node.value.elts, strict=False)
                yield from ((name.id, value) for name, value in pairs if isinstance(name, ast.Name))


def _reaching(body: list[ast.stmt], name: str, line: int) -> tuple[list[ast.expr], bool]:
    """Return the values that a variable can have at a line, and whether one is certain to have been assigned by then."""
    found: list[ast.expr] = []
    certain = False
    for statement in body:
        if statement.lineno > line:
            break
        blocks = [block for block in _blocks(statement) if block]
        if not blocks:
            if values := [value for target, value in _assigned(statement) if target == name]:
                found, certain = values, True
            continue
        inside = [block for block in blocks if block[0].lineno <= line <= (block[-1].end_lineno or line)]
        if inside:  # the line is in this branch: the others do not matter
            within, sure = _reaching(inside[0], name, line)
            return (within if sure else found + within), certain or sure
        results = [_reaching(block, name, line) for block in blocks if not _leaves(block)]
        complete = isinstance(statement, ast.If | ast.With) and all(block for block in _blocks(statement))
        if complete and results and all(sure for _, sure in results):
            found, certain = [], True
        found = [*found, *(value for values, _ in results for value in values)]
    return found, certain


def _blocks(statement: ast.stmt) -> list[list[ast.stmt]]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return []
    cases = [case.body for case in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ()))]
    return [getattr(statement, part) for part in ("body", "orelse", "finalbody") if hasattr(statement, part)] + cases


def _leaves(block: list[ast.stmt]) -> bool:
    return isinstance(block[-1], ast.Return | ast.Raise | ast.Continue | ast.Break)


def _nodes(module: Module) -> Iterator[tuple[ast.AST, Scope, str]]:
    """Yield each node with its scope and the class around it."""

    def below(node: ast.AST, scope: Scope, owner: str) -> Iterator[tuple[ast.AST, Scope, str]]:
        for child in ast.iter_child_nodes(node):
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            inner = Scope(module, child) if function else replace(scope, line=getattr(child, "lineno", scope.line))
            name = child.name if isinstance(child, ast.ClassDef) else owner
            yield child, inner, name
            yield from below(child, inner, name)

    yield from below(module.tree, Scope(module), "")


def _plain_names(node: ast.Call) -> set[str]:
    """Return the names of variables that are a text of an error, or stand in one."""
    arguments = [one for value in (*node.args, *(word.value for word in node.keywords)) for one in _choices(value)]
    parts = [
        part.value
        for one in arguments
        if isinstance(one, ast.JoinedStr)
        for part in one.values
        if isinstance(part, ast.FormattedValue)
    ]
    return {one.id for one in (*arguments, *parts) if isinstance(one, ast.Name)}


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else node.func.attr if isinstance(node.func, ast.Attribute) else ""


def _choices(node: ast.expr) -> list[ast.expr]:
    return [*_choices(node.body), *_choices(node.orelse)] if isinstance(node, ast.IfExp) else [node]


def _is_super(node: ast.Call) -> bool:
    function = node.func
    return (
        isinstance(function, ast.Attribute)
        and function.attr == "__init__"
        and isinstance(function.value, ast.Call)
        and isinstance(function.value.func, ast.Name)
        and function.value.func.id == "super"
    )
