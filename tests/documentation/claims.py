"""Promises of the documentation and the tests that prove them: tests/tables/claims.yaml."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import yaml

from tests.places import TESTS

TABLE = TESTS / "tables" / "claims.yaml"
_NEVER_RUN = frozenset({"pytest.mark.skip", "pytest.mark.xfail", "unittest.skip"})


@dataclass(frozen=True)
class Row:
    """`says`: words of the page. Either tests (`FILE::NAME`, FILE from tests/) or a reason why there is nothing to prove."""

    page: str
    says: str
    tests: tuple[str, ...]
    none: str

    @property
    def name(self) -> str:
        return f"{self.page}: {self.says[:60]}"


@cache
def rows() -> tuple[Row, ...]:
    """The table. Raises TypeError or KeyError for a row of another form."""
    table = yaml.safe_load(TABLE.read_text())
    return tuple(_row(page, **given) for page, found in table.items() for given in found)


def _row(page: str, *, says: str, tests: list[str] | None = None, none: str = "") -> Row:
    return Row(page, says, tuple(tests or ()), none)


@cache
def _functions(file: str) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    """Tests of a module by name; none when the whole module is skipped for good."""
    module = ast.parse((TESTS / file).read_text())
    if any(_is_never_run(node) for node in module.body):
        return {}
    found = (node for node in module.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {node.name: node for node in found if node.name.startswith("test_")}


def missing(test: str) -> str:
    """Why this test proves nothing; empty when it is there and runs."""
    file, _, name = test.partition("::")
    if not (TESTS / file).is_file():
        return f"{test}: there is no such file"
    function = _functions(file).get(name)
    if function is None:
        return f"{test}: there is no such test"
    if any(_called(decorator) in _NEVER_RUN for decorator in function.decorator_list) or _is_never_run(_first(function)):
        return f"{test}: it is always skipped"
    return "" if any(_asserts(node) for node in ast.walk(function)) else f"{test}: it asserts nothing"


def _first(function: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.stmt:
    return next((node for node in function.body if not _is_text(node)), function.body[0])


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_never_run(node: ast.stmt) -> bool:
    """`pytest.skip(...)` that no condition precedes, or `pytestmark = pytest.mark.skip`."""
    if isinstance(node, ast.Expr):
        return _called(node.value) in ("pytest.skip", "pytest.fail", "pytest.xfail")
    if isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["pytestmark"]:
        return any(_called(part) in _NEVER_RUN for part in ast.walk(node.value) if isinstance(part, ast.expr))
    return False


def _called(node: ast.expr) -> str:
    return ast.unparse(node.func if isinstance(node, ast.Call) else node)


def _asserts(node: ast.AST) -> bool:
    """An assertion, `pytest.raises`, or a call of something that is made to assert."""
    return isinstance(node, ast.Assert | ast.Call)


def uncovered(page: str, claims: Iterator[str] | tuple[str, ...]) -> list[str]:
    """Claims of a page in which no row's words stand."""
    said = [row.says for row in rows() if row.page == page]
    return [claim for claim in claims if not any(words in claim for words in said)]
