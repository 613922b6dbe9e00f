"""Modules of `nqrust.contract` that are imported when one of their models is needed: a command line needs few of them."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Contract:
    """Stands for the module `name` of `nqrust.contract`."""

    def __init__(self, name: str) -> None:
        self._name = f"nqrust.contract.{name}"

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)
