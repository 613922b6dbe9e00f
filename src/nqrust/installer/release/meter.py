"""The progress of a download: how much, how fast, how long still."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from nqrust.installer.engine.progress import Progress

_EVERY = 0.2  # seconds between two reports
_WINDOW = 10.0  # seconds that the rate is measured over


@dataclass
class Meter:
    """Report the bytes of one attempt. `total`: of the whole file, if known. `clock` in seconds."""

    name: str
    total: int | None
    progress: Progress
    clock: Callable[[], float] = time.monotonic
    _seen: deque[tuple[float, int]] = field(default_factory=deque)
    _told: float = -_EVERY

    def at(self, have: int) -> None:
        """Note that `have` bytes are here, and report it now and then."""
        now = self.clock()
        self._seen.append((now, have))
        while now - self._seen[0][0] > _WINDOW:
            self._seen.popleft()
        if have != self.total and now - self._told < _EVERY:
            return
        self._told = now
        self.progress(self.text(), have / self.total if self.total else None)

    @property
    def rate(self) -> float:
        """Bytes a second over the last seconds; 0 before two reports."""
        (begin, first), (end, last) = self._seen[0], self._seen[-1]
        return (last - first) / (end - begin) if end > begin else 0.0

    def text(self) -> str:
        have = self._seen[-1][1]
        parts = [f"{self.name}: {size(have)}" + (f" of {size(self.total)}" if self.total else "")]
        if self.rate:
            parts.append(f"{size(int(self.rate))}/s")
            if self.total and self.total > have:
                parts.append(f"{duration((self.total - have) / self.rate)} left")
        return ", ".join(parts)


def size(count: int) -> str:
    """Return bytes as people read them: 812 B, 3.1 MB."""
    amount = float(count)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def duration(seconds: float) -> str:
    """Return a time as people read it: 9 s, 2 min 5 s, 1 h 12 min."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
