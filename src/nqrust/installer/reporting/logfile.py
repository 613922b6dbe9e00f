"""The log of a run: every event and the program's own log records (the commands it ran), as lines with UTC times.

The first change or failure creates the file. A run that found everything in place, or that was refused before any change,
leaves no file or log folder. The newest logs are kept, and older ones are deleted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
from datetime import datetime, timezone
from typing import TextIO

from nqrust.contract.paths import INSTALL_LOG_DIR
from nqrust.contract.text import plain
from nqrust.host.port import Command
from nqrust.host.secret import without_credentials
from nqrust.installer.engine.errors import NqrError
from nqrust.installer.engine.events import (
    Event,
    Notice,
    PhaseFinished,
    PhaseStarted,
    Proof,
    RunFinished,
    RunStarted,
    StepFinished,
    StepProgress,
    StepStarted,
)

_BUFFER_LINES = 20_000
KEPT = 50
"""Logs of runs that stay, this run's included."""
_OURS = re.compile(r"(\d{8}T\d{6}Z)(?:-(\d+))?\.log")


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


def log_command(cmd: Command, code: int, seconds: float) -> None:
    """Log each command with its exit code, for `LocalHost(observe=...)`. Arguments hold no secret; input and environment are not
    logged."""
    logging.getLogger("nqrust.host").debug("ran %s: exit %s, %.3f s", shlex.join(cmd.argv), code, seconds)


class LogFileReporter(logging.Handler):
    """Reporter that writes the log. `directory`: its folder; `opened`: whether the file exists. Writing never raises."""

    def __init__(self, directory: str = INSTALL_LOG_DIR, level: int = logging.DEBUG) -> None:
        super().__init__(level)
        self.path = f"{directory}/{utc_now():%Y%m%dT%H%M%SZ}.log"
        self.opened = False
        self._waiting: list[str] = []
        self._file: TextIO | None = None
        self._broken = False

    def attach(self) -> None:
        """Receive the program's own log records."""
        logger = logging.getLogger("nqrust")
        logger.addHandler(self)
        logger.propagate = False
        if logger.level == logging.NOTSET or logger.level > self.level:
            logger.setLevel(self.level)

    def detach(self) -> None:
        logging.getLogger("nqrust").removeHandler(self)
        if self._file is not None:
            self._file.close()
            self._file = None

    # --- the two inputs: engine events and log records

    def emit(self, event: Event | logging.LogRecord) -> None:
        if isinstance(event, logging.LogRecord):
            self._write(f"{event.levelname.lower():<7} {event.getMessage()}")
            return
        if isinstance(event, StepStarted) or (
            isinstance(event, StepFinished) and event.outcome not in ("satisfied", "would-change", "conflict")
        ):
            self._open()
        if event_level(event) < self.level:
            return
        for line in event_lines(event):
            self._write(line)

    def failure(self, error: NqrError, trace: str = "") -> None:
        """Log an error that ended the run; `trace` goes only to this log."""
        self._write(f"error   {error.code} {error.what} | {error.cure}")
        if trace:
            self._open()
            for line in trace.rstrip().splitlines():
                self._write(f"trace   {line}")

    def _open(self) -> None:
        if self.opened or self._broken:
            return
        try:
            os.makedirs(os.path.dirname(self.path), mode=0o755, exist_ok=True)
            path, number = self.path, 1
            while True:
                try:
                    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
                    break
                except FileExistsError:  # two runs in the same second
                    number += 1
                    path = self.path.removesuffix(".log") + f"-{number}.log"
            self.path = path
            self._file = os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace")
        except OSError:
            self._broken = True  # a full or read-only /var/log must not stop the run
            return
        self.opened = True
        delete_old_logs(os.path.dirname(self.path))
        waiting, self._waiting = self._waiting, []
        for line in waiting:
            self._put(line)

    def _write(self, text: str) -> None:
        line = f"{utc_now():%Y-%m-%dT%H:%M:%S.%f}"[:-3] + f"Z {text}"
        if self._file is None:
            if len(self._waiting) < _BUFFER_LINES:
                self._waiting.append(line)
        else:
            self._put(line)

    def _put(self, line: str) -> None:
        if self._file is None:
            return
        try:
            self._file.write(plain(without_credentials(line)).replace("\n", "\\n") + "\n")
            self._file.flush()
        except (OSError, ValueError):
            self._broken = True


def delete_old_logs(directory: str) -> None:
    """Delete all but the newest logs of runs. Files with other names stay. Raises nothing."""
    found = []
    with contextlib.suppress(OSError):
        found = [(match[1], int(match[2] or 1), name) for name in os.listdir(directory) if (match := _OURS.fullmatch(name))]
    for _, _, name in sorted(found, reverse=True)[KEPT:]:
        with contextlib.suppress(OSError):
            os.unlink(f"{directory}/{name}")


_SEVERITIES = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_BAD = {"failed": logging.ERROR, "undo-failed": logging.ERROR, "conflict": logging.WARNING, "unproven": logging.WARNING}


def event_level(event: Event) -> int:
    """Return the level for logging: debug for a program's output; warning or error for a problem."""
    if isinstance(event, StepProgress):
        return logging.DEBUG
    if isinstance(event, Notice):
        return _SEVERITIES.get(event.severity, logging.INFO)
    if isinstance(event, StepFinished):
        return _BAD.get(event.outcome, logging.INFO)
    if isinstance(event, Proof):
        return _BAD.get(event.verdict, logging.INFO)
    return logging.INFO


def event_lines(event: Event) -> list[str]:
    """Return an event as lines of the log, without time."""
    if isinstance(event, RunStarted):
        return [f"run     {event.run} {event.verb}{' (resumed)' if event.resumed else ''}"]
    if isinstance(event, PhaseStarted):
        skipped = f" (skipped: {event.skipped})" if event.skipped else ""
        return [f"phase   {event.name}: {event.title}{skipped}"]
    if isinstance(event, PhaseFinished):
        return [f"phase   {event.name}: {event.changed} changed, {event.satisfied} satisfied, {event.seconds:.3f} s"]
    if isinstance(event, StepStarted):
        return [f"step    {event.id}: {event.describe}"]
    if isinstance(event, StepProgress):
        return [f"output  {event.id}: {event.text}"] if event.text else []
    if isinstance(event, StepFinished):
        note = f" ({event.note})" if event.note else ""
        first = f"step    {event.id}: {event.outcome} {event.seconds:.3f} s{note}"
        return [first, *(f"diff    {line}" for line in event.diff)]
    if isinstance(event, Notice):
        return [f"{event.severity:<7} {event.code} {event.text}" + (f" | {event.cure}" if event.cure else "")]
    if isinstance(event, Proof):
        return [f"proof   {event.hop}: {event.verdict} {event.detail} {event.code} {event.cure}".rstrip()]
    if isinstance(event, RunFinished):
        return [f"run     {event.outcome}: {_figures(event)}"]
    return [f"event   {event}"]


def _figures(event: PhaseFinished | RunFinished) -> str:
    return f"{event.changed} changed, {event.satisfied} satisfied, {event.seconds:.3f} s"
