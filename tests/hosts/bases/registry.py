"""Every module of this folder that defines MACHINE, in the order of their names."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tests.hosts.bases.model import BaseMachine

_MODULES = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in ("__init__", "model", "registry"))
MACHINES: tuple[BaseMachine, ...] = tuple(import_module(f"tests.hosts.bases.{name}").MACHINE for name in _MODULES)


def machine_named(name: str) -> BaseMachine:
    """Raises KeyError for a name that no module has."""
    return {machine.name: machine for machine in MACHINES}[name]
