"""Shell form of the record for a resource: none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nqrust.installer.engine.verb import UndoContext


def resource(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    """The script removes the whole service, and its records with it."""
    return iter(())
