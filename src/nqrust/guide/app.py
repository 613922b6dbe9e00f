"""The application: four screens over one state, and how it ends."""

from __future__ import annotations

from enum import Enum
from typing import ClassVar

from textual.app import App
from textual.binding import Binding
from textual.screen import Screen

from nqrust.guide.screens.base import Question
from nqrust.guide.screens.host import HostScreen
from nqrust.guide.screens.progress import ProgressScreen
from nqrust.guide.screens.review import ReviewScreen
from nqrust.guide.screens.settings import SettingsScreen
from nqrust.guide.state import State


class Ending(str, Enum):
    """`left`: a person quit before the install. `stopped`: Ctrl-C or a signal did. `rehearse`: the program rehearses, and opens the
    guide again. `done`: the install ended, and the state has its summary. `failed`: `Guide.error` says why."""

    left = "left"
    stopped = "stopped"
    rehearse = "rehearse"
    done = "done"
    failed = "failed"


class Guide(App[Ending]):
    """`first`: the screen to begin with."""

    CSS_PATH = None
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar = [Binding("ctrl+c,ctrl+q", "stop", priority=True)]
    CSS = """
    Screen { background: ansi_default; color: ansi_default; layout: vertical; }
    .title { text-style: bold reverse; width: 100%; height: 1; }
    #body { height: 1fr; padding: 0 1; scrollbar-size-vertical: 1; background: ansi_default; }
    .keys { text-style: bold; width: 100%; height: auto; max-height: 2; padding: 0 1; }
    .about { height: auto; min-height: 3; max-height: 6; padding: 0 1; width: 100%; overflow-y: auto; }
    .head { text-style: bold; height: 1; }
    .row { height: 1; }
    .label { width: 18; height: 1; }
    .control { width: 1fr; height: 1; background: ansi_default; color: ansi_default; }
    Input.control:focus { text-style: underline; }
    Choice:focus { text-style: reverse; }
    Question, SaveScreen { align: center middle; background: ansi_default; }
    .question { width: 56; height: auto; padding: 1 2; border: ascii white; }
    .question-head, .question-keys { width: 56; height: 1; }
    .question-input { width: 56; height: 1; margin: 1 0; background: ansi_default; color: ansi_default; text-style: underline; }
    """

    def __init__(self, state: State, first: str = "host") -> None:
        super().__init__(ansi_color=True)
        self.state, self._first = state, first
        self.error: Exception | None = None
        self._shown: dict[str, Screen[None]] = {}

    def on_mount(self) -> None:
        self.set_interval(0.1, self._signalled)
        self.go(self._first)

    def go(self, name: str) -> None:
        """Show a screen. A screen that was there keeps what it shows."""
        kinds = {"host": HostScreen, "settings": SettingsScreen, "review": ReviewScreen, "progress": ProgressScreen}
        if name not in self._shown:
            self._shown[name] = kinds[name]()
            self.install_screen(self._shown[name], name)
        if len(self.screen_stack) < 2:  # above the empty one that every application begins with
            self.push_screen(name)
        else:
            self.switch_screen(name)

    # --- the ways out

    @property
    def installing(self) -> bool:
        return self.state.run is not None and self.state.summary is None

    def action_leave(self) -> None:
        """Quit. A running install is stopped only after a question."""
        if self.installing:
            self._ask_to_stop()
        elif self.state.summary is not None:
            self.finish()
        else:
            self.exit(Ending.left)

    def action_stop(self) -> None:
        """Ctrl-C: the same, and before the install the program ends as interrupted."""
        if self.installing:
            self._ask_to_stop()
        elif self.state.summary is not None:
            self.finish()
        else:
            self.exit(Ending.stopped)

    def _ask_to_stop(self) -> None:
        if isinstance(self.screen, ProgressScreen):
            self.screen.ask_to_stop()
        elif isinstance(self.screen, Question):
            self.screen.dismiss(True)

    def _signalled(self) -> None:
        """Leave after a signal. During an install, its flag is set, and the screen waits for the rollback."""
        if self.state.signal and not self.installing:
            self.exit(Ending.done if self.state.summary is not None else Ending.stopped)

    def rehearse(self) -> None:
        self.exit(Ending.rehearse)

    def review_again(self, message: str) -> None:
        self.state.run, self.state.reviewed, self.state.message = None, None, message
        self.go("review")
        self.uninstall_screen(self._shown.pop("progress"))

    def finish(self) -> None:
        self.exit(Ending.done)

    def _handle_exception(self, error: Exception) -> None:
        """End on a mistake in a screen without Textual's traceback: the command line reports it with a code and logs it."""
        if self.is_headless:  # a test gets the traceback
            super()._handle_exception(error)
        else:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """End with an error that no screen can show."""
        self.error = self.error or error
        self.exit(Ending.failed)
