"""Numbers, times and states in people's notation. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timezone

_TONES = {
    "running": "good",
    "online": "good",
    "ready": "good",
    "starting": "busy",
    "stopping": "busy",
    "pending": "busy",
    "deleting": "busy",
    "downloading": "busy",
    "creating": "busy",
    "paused": "warn",
    "degraded": "warn",
    "unknown": "warn",
    "missing": "warn",
    "cordoned": "warn",
    "warning": "warn",
    "failed": "bad",
    "offline": "bad",
    "conflict": "bad",
    "corrupt": "bad",
    "error": "bad",
}


def tone(state: str) -> str:
    """The colour family of a state: good, busy, warn, bad or calm."""
    return _TONES.get(state, "calm")


def mib(value: int | float) -> str:
    """MiB as the largest unit that keeps it readable: 256 MiB, 1.5 GiB, 2 TiB."""
    for unit, size in (("TiB", 1024 * 1024), ("GiB", 1024)):
        if value >= size:
            return f"{_short(value / size)} {unit}"
    return f"{_short(value)} MiB"


def size(value: int | float) -> str:
    """Bytes in the largest fitting unit."""
    for unit, factor in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value >= factor:
            return f"{_short(value / factor)} {unit}"
    return f"{int(value)} B"


def _short(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".") if value < 100 else f"{value:.0f}"


_SIZE = re.compile(r"(\d+(?:[.,]\d+)?)\s*(?:(m|g|t)(?:i?b)?)?", re.IGNORECASE)


def to_mib(text: str) -> int:
    """Parse a size into MiB: `512`, `512 MiB`, `2G`, `1.5 GiB`. Raises ValueError."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError("Write a size such as 512 MiB or 10 GiB.")
    unit = {"g": 1024, "t": 1024 * 1024}.get((found[2] or "m").lower(), 1)
    return round(float(found[1].replace(",", ".")) * unit)


def duration(seconds: float) -> str:
    """The two largest units: 45 s, 3 min, 2 h 5 min, 4 d 1 h."""
    whole = max(0, int(seconds))
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, left = divmod(rest, 60)
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min" if minutes else f"{left} s"


def ago(at: datetime | None, now: datetime | None = None) -> str:
    """How long ago: `just now`, `3 min ago`; a dash for never."""
    if at is None:
        return "–"
    seconds = ((now or datetime.now(timezone.utc)) - _aware(at)).total_seconds()
    return "just now" if seconds < 5 else f"{_coarse(seconds)} ago"


def _coarse(seconds: float) -> str:
    return duration(seconds).split(" ", 2)[0] + " " + duration(seconds).split(" ", 2)[1]


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=timezone.utc)


def clock(at: datetime) -> str:
    """UTC, to the second: 2026-01-31 12:00:00 UTC."""
    return _aware(at).astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def share(part: float, whole: float) -> float:
    """part/whole, 0 to 1; 0 for an unknown whole."""
    return min(1.0, max(0.0, part / whole)) if whole > 0 else 0.0


def share_of_cpus(percent: int) -> str:
    """A limit in percent of one CPU: 200 is 2 CPUs."""
    return f"{_short(percent / 100)} CPU{'' if percent == 100 else 's'}"


def count(number: int, one: str) -> str:
    """1 host, 2 hosts."""
    return f"{number} {one}{'' if number == 1 else 's'}"


def free_name(taken: set[str], stem: str = "vm") -> str:
    """Return the first unused name of vm-1, vm-2 ..."""
    number = 1
    while f"{stem}-{number}" in taken:
        number += 1
    return f"{stem}-{number}"


def safe_path(target: str | None) -> str:
    """Return the path after signing in: always on this server."""
    if not target or not target.startswith("/") or target.startswith(("//", "/\\", "/sign-in")):
        return "/"
    return target if all(c.isprintable() and c != "\\" for c in target) else "/"
