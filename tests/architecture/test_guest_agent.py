"""The guest agent's modules stand in layers, too: no circle among them."""

from __future__ import annotations

import re
from graphlib import CycleError, TopologicalSorter

import pytest
from tests.architecture.tree import below, text_of

_USED = re.compile(r"\bcrate::(\w+)|\bcrate::\{([^}]*)\}")


def used_by(source: str) -> set[str]:
    """Modules of the crate that a source names, without those of its own tests."""
    product = re.sub(r"//.*", "", source).split("#[cfg(test)]")[0]
    found = {name for one, many in _USED.findall(product) for name in [one, *re.findall(r"\w+", many)]}
    return found - {""}


def test_no_circle_among_the_modules() -> None:
    uses = {path.stem: used_by(text_of(path)) - {path.stem} for path in below("guest-agent/src", suffix=".rs")}
    assert uses["first"] == {"process", "sys"}, "the sources were read"
    list(TopologicalSorter(uses).static_order())


def test_a_circle_is_seen() -> None:
    uses = {"a": used_by("use crate::b::Thing;\n"), "b": used_by("fn f() { crate::a::g(); }\n#[cfg(test)]\nuse crate::c;")}
    assert uses == {"a": {"b"}, "b": {"a"}}
    with pytest.raises(CycleError):
        list(TopologicalSorter(uses).static_order())
