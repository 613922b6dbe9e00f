"""Screen 3: the plan of the install, before its first change."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from nqrust.guide import saving, texts
from nqrust.guide.screens.base import Working
from nqrust.guide.widgets import Keys
from nqrust.guide.work import Work
from nqrust.installer.engine.errors import UsageError
from nqrust.installer.reporting import wording
from nqrust.installer.request import Summary

_READY = "Enter install   d details   h rehearse   s save as YAML   Esc back   q quit"
_REFUSED = "r plan again   Esc back   s save as YAML   q quit"
_DETAILS = "d close details   Up/Down scroll   Enter install   q quit"


class ReviewScreen(Working):
    STEP = 2
    KEYS = "Esc back   q quit"
    BINDINGS: ClassVar = [
        Binding("enter,ctrl+n", "proceed", priority=True),
        Binding("d", "details"),
        Binding("h", "rehearse"),
        Binding("s", "save"),
        Binding("r", "plan"),
        Binding("escape", "back"),
        Binding("q", "app.leave"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._refused: Summary | None = None
        self._detailed = False
        self._said: texts.Line | None = None

    def on_screen_resume(self) -> None:
        self.query_one("#body").focus()
        if self.state.message:
            self._said, self.state.message = ("bold", self.state.message), ""
        if self.state.reviewed is None:
            self.action_plan()
        else:
            self._draw()

    def action_plan(self) -> None:
        if not self.busy:
            found, backend = self.state.found, self.state.backend
            self.state.reviewed, self._refused, self._detailed = None, None, False
            self.begin(lambda: backend.plan(found), "Planning the install ...")

    def finished(self, work: Work[Summary]) -> None:
        summary = work.result
        if summary.failure is not None:
            self._refused = summary
        else:
            self.state.reviewed = summary.preview
        self._draw()

    def _draw(self) -> None:
        lines: list[texts.Line] = [self._said, ("plain", "")] if self._said else []
        preview, look = self.state.reviewed, self.state.look
        if self._refused is not None:
            lines += texts.refusal_lines(self._refused)
        elif preview is not None and self._detailed:
            lines += [("bold" if style == "phase" else "plain", text) for style, text in wording.plan_lines(preview, diffs=False)]
        elif preview is not None and look is not None:
            lines += texts.review_lines(self.state.found, preview, look.facts, keeps=self.state.backend.keeps_after_failure())
        self.show(lines)
        keys = _REFUSED if self._refused is not None else _DETAILS if self._detailed else _READY
        self.query_one(Keys).show(keys if preview is not None or self._refused is not None else self.KEYS)

    # --- keys

    def action_details(self) -> None:
        if self.state.reviewed is not None:
            self._detailed = not self._detailed
            self._draw()
            self.query_one("#body").scroll_home(animate=False)

    def action_proceed(self) -> None:
        if self.state.reviewed is not None:
            self.guide.go("progress")

    def action_rehearse(self) -> None:
        if self.state.reviewed is not None:
            self.guide.rehearse()

    def action_back(self) -> None:
        self.guide.go("settings")

    def action_save(self) -> None:
        self.app.push_screen(SaveScreen(), self._save)

    def _save(self, path: str | None) -> None:
        if not path:
            return
        try:
            self.state.backend.save(path, saving.document(self.state.found))
            self._said = ("good", f"Saved. To use it: nqr install --config {path}")
        except UsageError as error:
            self._said = ("bad", f"{error.code}  {error.what} {error.cure}")
        self._draw()


class SaveScreen(ModalScreen[str]):
    """Ask for the path of the file."""

    BINDINGS: ClassVar = [Binding("escape", "leave")]

    def compose(self) -> ComposeResult:
        yield Static(Text("Save the settings as a YAML file:"), classes="question-head")
        yield Input(saving.DEFAULT, compact=True, id="path", classes="question-input")
        yield Static(Text("Enter save   Esc back"), classes="question-keys")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip())

    def action_leave(self) -> None:
        self.dismiss("")
