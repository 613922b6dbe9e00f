"""What one part must not know: a package manager outside its folder, the product inside the engine and the verbs."""

from __future__ import annotations

import ast
import re

import pytest
from tests.architecture.tree import below, name_of, text_of

INSTALLER = "src/nqrust/installer"
PACKAGES = f"{INSTALLER}/verbs/packages"
OWN = (f"{PACKAGES}/apt/", f"{PACKAGES}/dnf/", f"{INSTALLER}/distro/")
MANAGER = re.compile(r"(?<![A-Za-z])(?:apt|dpkg|dnf|rpm(?:new|orig|save)?|zypper|debs?)(?![A-Za-z])", re.IGNORECASE)
ALLOWED = {
    f"{INSTALLER}/verbs/packages/registry.py": "the one line a manager",
    f"{INSTALLER}/verbs/postgres/cluster.py": "a cure for people on RHEL, whose layout of PostgreSQL this file knows",
    f"{INSTALLER}/preflight/images.py": "a sentence for people; the image itself is made by Debian's mmdebstrap",
}


def strings(tree: ast.Module) -> list[tuple[int, str]]:
    """Strings of a source, each with its line; without docstrings."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}
    return [
        (node.lineno, node.value if isinstance(node.value, str) else node.value.decode("latin-1"))
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and id(node) not in prose
    ]


def code(text: str) -> list[tuple[int, str]]:
    """Names, modules and strings of a source, each with its line; without docstrings and comments."""
    tree = ast.parse(text)
    found = strings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.append((node.lineno, node.id))
        elif isinstance(node, ast.Attribute):
            found.append((node.lineno, node.attr))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.append((node.lineno, node.name))
        elif isinstance(node, ast.arg):
            found.append((node.lineno, node.arg))
        elif isinstance(node, ast.ImportFrom):
            found += [(node.lineno, word) for word in (node.module or "", *(alias.name for alias in node.names))]
        elif isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
    return found


def found_in(folder: str, pattern: re.Pattern[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for path in below(folder, suffix=".py"):
        lines = sorted({line for line, word in code(text_of(path)) if pattern.search(word)})
        if lines:
            found[name_of(path)] = lines
    return found


def test_a_package_manager_is_known_in_its_own_folder_only() -> None:
    folders = {path.parent.name for path in below(PACKAGES, suffix="manager.py")} - {"packages"}
    assert {name for name in folders if not MANAGER.search(name) or f"{PACKAGES}/{name}/" not in OWN} == set()
    found = {name: lines for name, lines in found_in(INSTALLER, MANAGER).items() if not name.startswith(OWN)}
    assert {name: lines for name, lines in found.items() if name not in ALLOWED} == {}, "ask `verbs/packages/manager.py`"
    assert set(ALLOWED) == set(found), "no exception that nothing needs"


OUTPUT = ("E:", "Error:", "Get:", "newly", "Unpacking", "Setting up", "Unable to", "Failed to", "No match", "No space left")
"""Words of the managers' output in any form, also one that none of them compares today."""


def compared(text: str) -> set[str]:
    """Texts with which a manager's `installing.py` recognises its output: its signs, and strings of the functions that read it."""
    readers = {"parse_output", "outdated_index", "lock_refused"}
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        signs = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Signs"
        if signs or (isinstance(node, ast.FunctionDef) and node.name in readers):
            found |= {one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    return {one for one in found if re.search(r"[A-Za-z]", one)}


def test_shared_code_knows_no_output_of_a_package_manager() -> None:
    own = [path for path in below(PACKAGES, suffix="installing.py") if name_of(path).startswith(OWN)]
    words = set(OUTPUT).union(*(compared(text_of(path)) for path in own))
    assert {"E: ", "No match for argument", "enough free space"} <= words, "the signs are found"
    shared = [path for path in below(PACKAGES, suffix=".py") if not name_of(path).startswith(OWN)]
    found = {
        (name_of(path), line, word)
        for path in shared
        for line, string in strings(ast.parse(text_of(path)))
        for word in words
        if word in string
    }
    assert found == set(), "a manager's own wording stands in its folder: `Signs` and `parse_output` of `manager.py`"


ENGINE = {
    "the product's name": re.compile(r"nqrust-microvm"),
    "a variable of the product": re.compile(r"NQRUST_"),
    "the program's place": re.compile(r"/nqr(?![\w-])"),
    "a service of the product": re.compile(r"(?<![A-Za-z])manager", re.IGNORECASE),
}


@pytest.mark.parametrize("what", ENGINE)
def test_engine_code_names_no_product(what: str) -> None:
    assert found_in(f"{INSTALLER}/engine", ENGINE[what]) == {}, "whoever calls the engine passes it in"


def test_the_verbs_name_the_product_by_its_contract() -> None:
    assert found_in(f"{INSTALLER}/verbs", re.compile(r"nqrust-microvm|NQRUST_")) == {}, "nqrust.contract has the names"


def test_the_search_finds_code_and_leaves_prose() -> None:
    sample = '"""Prose: apt."""\nimport dpkg\n\ndef rpm_of(dnf): # apt\n    """rpm"""\n    return "apt-get", b"x.deb", adapt, captured\n'
    assert sorted({line for line, word in code(sample) if MANAGER.search(word)}) == [2, 4, 6]
    assert not ENGINE["the program's place"].search("/usr/local/bin/nqr-other") and ENGINE["the program's place"].search(
        "bin/nqr"
    )
