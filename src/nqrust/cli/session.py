"""The log and the display of one run, shared by its modules. Commands that change a machine create them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from nqrust.installer.engine.errors import NqrError

if TYPE_CHECKING:
    from nqrust.installer.engine.events import Fanout
    from nqrust.installer.reporting.display import Display
    from nqrust.installer.reporting.logfile import LogFileReporter

_log: LogFileReporter | None = None


@dataclass(frozen=True)
class Session:
    """Log and display of one run. `events` reports to both. `terminal`: a person can answer questions."""

    display: Display
    log: LogFileReporter
    events: Fanout
    terminal: bool
    speaks_json: bool

    @property
    def log_path(self) -> str:
        """Path of the log, "" without one (an uninstall removes its own log)."""
        return self.log.path if self.log.opened and os.path.exists(self.log.path) else ""


@contextmanager
def opened(output: str, log_level: str) -> Iterator[Session]:
    """Open the log and the display for `output` (text | json); close both at the end."""
    # An uninstall removes the program while it runs, so it loads everything that it may need first.
    import logging
    import traceback  # noqa: F401

    import nqrust.installer.reporting.jsonl
    import nqrust.installer.reporting.plain  # noqa: F401
    from nqrust.installer.engine.events import Fanout
    from nqrust.installer.reporting.logfile import LogFileReporter

    global _log
    display, terminal = _display(output)
    log = LogFileReporter(level=getattr(logging, log_level.upper()))
    _log = log
    log.attach()
    try:
        yield Session(display, log, Fanout((log, display)), terminal, output == "json")
    except (NqrError, typer.Exit) as error:
        if isinstance(error, NqrError):
            log.failure(error)
        log.detach()
        raise
    else:
        log.detach()
    finally:
        display.close()


def log_path() -> str:
    """Return the path of this run's log, "" without one."""
    return _log.path if _log is not None and _log.opened and os.path.exists(_log.path) else ""


def keep_trace(error: NqrError, trace: str) -> str:
    """Write a traceback to the log of this run and return the log's path. "" if the log cannot be written, or if an uninstall
    has removed it."""
    log = _log
    if log is None:
        from nqrust.installer.reporting.logfile import LogFileReporter

        if os.geteuid() != 0:
            return ""
        log = LogFileReporter()
    log.failure(error, trace)
    log.detach()
    return log.path if log.opened and os.path.exists(log.path) else ""


def at_terminal() -> bool:
    """Return whether both standard input and output are a terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def _display(output: str) -> tuple[Display, bool]:
    if output == "json":
        from nqrust.installer.reporting.jsonl import JsonLinesReporter

        return JsonLinesReporter(sys.stdout), False
    if sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb"):
        from rich.console import Console

        from nqrust.installer.reporting.terminal import TerminalReporter

        return TerminalReporter(Console(highlight=False)), at_terminal()
    from nqrust.installer.reporting.plain import PlainReporter

    return PlainReporter(sys.stdout, sys.stderr), at_terminal()
