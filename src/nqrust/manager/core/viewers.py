"""How many consoles and sessions in guests are open at once.

Each is a connection to the host's agent, and one to the manager. Both bound their connections, and need some to control VMs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from nqrust.manager.core.principal import Principal
from nqrust.manager.errors import TooManyViewers

OF_A_USER, OF_A_VM, OF_A_HOST, OF_ALL = 64, 32, 250, 400
"""The agent has 500 connections for the manager. The manager has 500 for one user of its machine, such as the web UI's."""


class Viewers:
    def __init__(self) -> None:
        self._open: Counter[tuple[str, str]] = Counter()

    def check(self, who: Principal, vm_id: str, host_id: str | None) -> None:
        """Raise TooManyViewers if one more has no place."""
        self._places(who, vm_id, host_id)

    @contextmanager
    def place(self, who: Principal, vm_id: str, host_id: str) -> Iterator[None]:
        """Have a place for one. Raises TooManyViewers."""
        taken = self._places(who, vm_id, host_id)
        self._open.update(taken)
        try:
            yield
        finally:
            self._open.subtract(taken)
            for key in taken:
                if not self._open[key]:
                    del self._open[key]

    def _places(self, who: Principal, vm_id: str, host_id: str | None) -> list[tuple[str, str]]:
        bounds = (
            (("user", who.owner), OF_A_USER, "You have"),
            (("vm", vm_id), OF_A_VM, "This VM has"),
            (("host", host_id or ""), OF_A_HOST, "The VM's host has"),
            (("all", ""), OF_ALL, "All users together have"),
        )
        for key, most, has in bounds:
            if self._open[key] >= most:
                raise TooManyViewers(f"{has} {most} open consoles and sessions.")
        return [key for key, _, _ in bounds]
