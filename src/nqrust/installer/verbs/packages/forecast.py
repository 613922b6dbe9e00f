"""Forecast of reverting records of packages, for cases that need a look at the host. Reads only, and decides like the verbs."""

from __future__ import annotations

from typing import Any

from nqrust.installer.engine.verb import Forecast, UndoContext
from nqrust.installer.verbs.packages import undo
from nqrust.installer.verbs.packages.registry import of_record


def packages(context: UndoContext, args: dict[str, Any]) -> Forecast:
    going, for_data = undo.victims(context.host, args, context.needed_packages)
    plain = of_record(args).removing.plain(context.host)
    going -= args["gone"].union(map(plain, undo.brought_by(context.older)))
    others = undo.needed_by_others(context.host, args, going, args["gone"])
    going -= others
    return Forecast(
        (f"remove {len(going)} packages: {', '.join(sorted(going))}",) if going else (),
        (f"packages that others need now stay: {', '.join(sorted(others))}",) if others else (),
        (f"packages stay for the data that stays: {', '.join(sorted(for_data))}",) if for_data else (),
        frozenset(going),
    )
