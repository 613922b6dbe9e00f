"""The common parts of the four screens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from nqrust.guide.state import Guiding, State
from nqrust.guide.texts import Line
from nqrust.guide.widgets import Keys, Title, styled


class Step(Screen[None]):
    """A screen with a title, a body that scrolls, and its keys at the bottom."""

    STEP = 0
    KEYS = ""

    @property
    def guide(self) -> Guiding:
        return cast("Guiding", self.app)

    @property
    def state(self) -> State:
        return self.guide.state

    def compose(self) -> ComposeResult:
        yield Title(self.STEP)
        with VerticalScroll(id="body"):
            yield from self.body()
        yield Keys(self.KEYS)

    def body(self) -> Iterable[Static]:
        yield Static(id="text")

    def show(self, lines: Iterable[Line]) -> None:
        self.query_one("#text", Static).update(styled(lines))


class Question(ModalScreen[bool]):
    """A question in the middle of the screen: y or n."""

    BINDINGS: ClassVar = [Binding("y", "answer(True)"), Binding("n,escape", "answer(False)")]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        yield Static(f"{self._text}\n\ny yes   n no", classes="question", markup=False)

    def action_answer(self, answer: bool) -> None:
        self.dismiss(answer)
