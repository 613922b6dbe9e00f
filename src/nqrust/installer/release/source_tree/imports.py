"""Which modules of this project a program loads, read from its sources without running them.

Follows `import` statements anywhere in a module, also those inside functions. See "The import system" in the Python reference.
"""

from __future__ import annotations

import ast
import posixpath
from collections.abc import Iterable, Mapping

PACKAGE = "nqrust"


def name_of(path: str) -> str:
    """Return the module of a file, relative to the folder of the package: `host/port.py` -> `nqrust.host.port`."""
    parts = [PACKAGE, *path.removesuffix(".py").split("/")]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def loaded_by(entry: str, sources: Mapping[str, str]) -> frozenset[str]:
    """Return the modules that `entry` loads, itself and the packages around them included. `sources`: module -> text. Raises
    SyntaxError."""
    found: set[str] = set()
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        for part in _with_packages(name):
            if part not in found and part in sources:
                found.add(part)
                waiting += _imported(sources[part], sources)
    return frozenset(found)


def touches(changed: Iterable[str], entry: str, modules: frozenset[str]) -> bool:
    """Return whether the program that starts with the module `entry` and loads `modules` uses one of the changed files, relative to
    the folder of the package. Every file of its own package counts, because a program can load files by path. A file that is not a
    module counts for the package around it."""
    own = f"{entry.rpartition('.')[0]}."
    return any(
        name_of(path) in modules or f"{name_of(path)}.".startswith(own) if path.endswith(".py") else _package_of(path, modules)
        for path in changed
    )


def _package_of(path: str, modules: frozenset[str]) -> bool:
    folder = posixpath.dirname(path)
    while folder:
        package = name_of(folder)
        if any(module == package or module.startswith(f"{package}.") for module in modules):
            return True
        folder = posixpath.dirname(folder)
    return False


def _with_packages(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts) + 1)]


def _imported(text: str, sources: Mapping[str, str]) -> list[str]:
    found: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for name in found if name in sources]
