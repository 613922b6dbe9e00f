"""Shell form of the record for a resource: none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nqrust.installer.engine.verb import UndoContext

FUNCTIONS = ""


def resource(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    """Yield nothing: the script removes the whole service with its records."""
    return iter(())
