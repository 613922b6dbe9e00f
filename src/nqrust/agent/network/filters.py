"""Several filters as one."""

from __future__ import annotations

from nqrust.agent.network.taps import Filter


class Filters:
    """Each does its own work. `lacking` tells of all that lack something."""

    def __init__(self, *filters: Filter) -> None:
        self._filters = filters
        self.lacking = ""

    def sync(self) -> bool:
        changed = [one.sync() for one in self._filters]
        self.lacking = "; ".join(one.lacking for one in self._filters if one.lacking)
        return any(changed)
