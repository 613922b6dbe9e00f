"""A real terminal on a test host, with keys and a screen: tmux(1)."""

from __future__ import annotations

import re
import shlex
import time
from dataclasses import dataclass

from tests.hosts.machine import Machine
from tests.hosts.product import CLONE


@dataclass
class Pane:
    """A terminal of tmux on the host. Each start has its own server, so that none waits for the end of the one before."""

    host: Machine
    number: int = 0

    def starts(self, line: str, *, columns: int = 80, rows: int = 24, folder: str = CLONE) -> None:
        if self.number:
            self.ends()
        self.number += 1
        inside = f"cd {shlex.quote(folder)}; {line}; echo ended with $?; sleep 3600"
        self._tmux("-u", "new-session", "-d", "-x", str(columns), "-y", str(rows), inside)

    def ends(self) -> None:
        self._tmux("kill-server")

    def _tmux(self, *words: str) -> str:
        return self.host.run(["tmux", "-L", f"guide{self.number}", *words]).stdout

    def keys(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)

    def types(self, text: str) -> None:
        self._tmux("send-keys", "-l", text)

    def text(self) -> str:
        return self._tmux("capture-pane", "-p")

    def waits_for(self, wanted: str, timeout: float = 400.0) -> str:
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            shown = self.text()
            if re.search(wanted, shown):
                return shown
            time.sleep(0.5)
        raise AssertionError(f"{wanted!r} never came:\n{self.text()}")
