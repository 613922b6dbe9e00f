"""The guide behind `nqr install` at a terminal: when it opens, and how its screens reach the installer."""

from __future__ import annotations

import locale
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from types import FrameType
from typing import TYPE_CHECKING, Any

from nqrust.cli import session
from nqrust.cli.failures import write_private
from nqrust.cli.install import gathering
from nqrust.cli.install.flags import run_value

if TYPE_CHECKING:
    from nqrust.guide.app import Ending
    from nqrust.guide.backend import Answers
    from nqrust.guide.state import State
    from nqrust.installer.engine.events import Reporter
    from nqrust.installer.engine.interrupt import Interruption
    from nqrust.installer.operations.looking import HostLook
    from nqrust.installer.request import PlanPreview, Summary
    from nqrust.installer.settings.sources import Gathered

LEAST = (60, 20)
"""Columns and rows that the screens need."""
_PATIENCE = 10.0
"""Seconds for the usual way out after a lost terminal."""


def wanted(flags: Mapping[str, Any], found: Gathered) -> bool:
    """Return whether the guide opens: somebody is there to answer, the terminal can show it, and no option, variable or file has
    answered already. `--interactive` opens it with those answers."""
    if run_value(flags, "non_interactive") or run_value(flags, "dry_run") or run_value(flags, "output") == "json":
        return False
    answered = any(item.kind in ("flag", "environment", "config") for item in found.given.values())
    return (not answered or flags.get("non_interactive") is False) and _can_show()


def _can_show() -> bool:
    """Return whether this terminal has what the screens need: control of the cursor, room, and UTF-8."""
    columns, rows = shutil.get_terminal_size((0, 0))
    return (
        session.at_terminal()
        and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
        and columns >= LEAST[0]
        and rows >= LEAST[1]
        and locale.getpreferredencoding(False).lower().replace("-", "") == "utf8"
        and find_spec("textual") is not None
    )


@dataclass
class Installer:
    """The backend of the screens. `given`: the flags of this command line; `run`: its log and its options."""

    flags: Mapping[str, Any]
    run: session.Session

    def settle(self, answers: Answers) -> Gathered:
        from nqrust.guide import fields

        environ = {**os.environ, **{name: value.reveal() for name, value in answers.secrets.items()}}
        below = gathering.gathered(self.flags)
        return gathering.gathered(self.flags, above=fields.effective(answers.settings, below), environ=environ)

    def examine(self, found: Gathered) -> HostLook:
        from nqrust.installer import operations

        return operations.examine(gathering.request(self.flags, found))

    def plan(self, found: Gathered) -> Summary:
        from nqrust.installer import operations
        from nqrust.installer.engine.events import NullReporter

        return operations.plan(gathering.request(self.flags, found), NullReporter())

    def install(self, found: Gathered, reviewed: PlanPreview, events: Reporter, interruption: Interruption) -> Summary:
        from nqrust.installer import operations
        from nqrust.installer.engine.events import Fanout

        def still_so(preview: PlanPreview) -> bool:
            return _steps(preview) == _steps(reviewed)

        asked = gathering.request(self.flags, found, log_path=self.run.log.path, confirm=still_so)
        asked = replace(asked, run=replace(asked.run, interruption=interruption))
        return operations.install(asked, Fanout((self.run.log, events)))

    def keeps_after_failure(self) -> bool:
        return "on_failure" in self.flags and run_value(self.flags, "on_failure") == "keep"

    def save(self, path: str, text: str) -> None:
        write_private(os.path.abspath(os.path.expanduser(path)), text.encode(), mode=0o600)

    def first_password(self, summary: Summary) -> str:
        if not summary.admin_password_file or not summary.changed:
            return ""
        try:
            with open(summary.admin_password_file, encoding="utf-8") as file:
                return file.readline().strip()
        except OSError:
            return ""

    def log_path(self) -> str:
        return self.run.log_path


def _steps(preview: PlanPreview) -> list[str]:
    return [step.id for phase in preview.phases for step in phase.changes]


def guide(flags: Mapping[str, Any], run: session.Session, found: Gathered) -> tuple[Ending, State]:
    """Open the guide until it ends, and return how, with its state. A rehearsal leaves the screens and comes back to them."""
    from nqrust.guide.app import Ending, Guide
    from nqrust.guide.state import State

    state = State(Installer(flags, run), found)
    first = "host"
    while True:
        app = Guide(state, first)
        with _signals_for(state, run):
            ending = app.run(mouse=False)
            if state.run is not None and state.summary is None:  # the screens are gone, the install is not
                state.run.work.wait()
                state.summary, ending = state.run.work.result, Ending.done
        if app.error is not None and state.summary is None:
            raise app.error
        if ending is not Ending.rehearse:
            return ending or Ending.stopped, state
        state.message, first = _rehearse(flags, run, state.found), "review"


@contextmanager
def _signals_for(state: State, run: session.Session) -> Iterator[None]:
    """Pass signals to the running install, or to the screens. After a lost terminal, its output may block: the program then ends
    as soon as the install has."""

    def handle(number: int, frame: FrameType | None) -> None:
        state.signal = state.signal or number
        if state.run is not None:
            state.run.interruption.arrive(number)
        if number == signal.SIGHUP:
            threading.Thread(target=_leave, args=(state, run), daemon=True).start()

    previous = {one: signal.signal(one, handle) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for one, handler in previous.items():
            signal.signal(one, handler)


def _leave(state: State, run: session.Session) -> None:
    if state.run is not None:
        state.run.work.wait()
    time.sleep(_PATIENCE)
    run.log.detach()
    os._exit(130)


def _rehearse(flags: Mapping[str, Any], run: session.Session, found: Gathered) -> str:
    """Rehearse in the plain terminal, wait for Enter, and return a sentence on it."""
    from nqrust.cli.install.rehearsing import install_arguments
    from nqrust.installer.rehearsal.operation import rehearse
    from nqrust.installer.reporting import wording

    asked = gathering.request(flags, found)
    arguments = (*install_arguments(flags), *_arguments(found))
    secrets = {
        "NQR_DB_PASSWORD": found.db_password,
        "NQR_ADMIN_PASSWORD": found.admin_password,
        "NQR_JOIN_TOKEN": found.join_token,
    }
    with _environment({name: value.reveal() for name, value in secrets.items() if value}):
        summary = rehearse(asked, arguments, run.display, cwd=os.getcwd())
    run.display.summary("rehearsal", summary)
    sys.stdout.write("\nPress Enter to go back to the guide. ")
    sys.stdout.flush()
    sys.stdin.readline()
    return wording.headline("rehearsal", summary)


def _arguments(found: Gathered) -> tuple[str, ...]:
    """Return the answers of the guide as options."""
    from nqrust.installer.settings.options import BY_NAME, Form

    made = []
    for name, item in found.given.items():
        option = BY_NAME[name]
        if item.kind != "flag":
            continue
        if option.form is Form.boolean:
            made.append(option.flag if item.value in (True, "true") else option.off)
        else:
            made.append(f"{option.flag}={item.value}")
    return tuple(made)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
