"""The common parts of the four screens."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from nqrust.guide.state import Guiding, State
from nqrust.guide.texts import Line
from nqrust.guide.widgets import Keys, Title, styled
from nqrust.guide.work import Work


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


class Working(Step):
    """A screen with work that runs beside it. `finished` gets each piece of work at its end."""

    def __init__(self) -> None:
        super().__init__()
        self._work: Work[Any] | None = None

    def on_mount(self) -> None:
        self.set_interval(0.05, self._poll)

    def begin(self, function: Callable[[], Any], said: str) -> None:
        """Run `function`, unless work is under way, and show `said` meanwhile."""
        if self._work is None:
            self._work = Work(function)
            self.show([("plain", said)])

    @property
    def busy(self) -> bool:
        return self._work is not None

    def finished(self, work: Work[Any]) -> None:
        """Show the result. An error that it raises ends the guide."""
        raise NotImplementedError

    def _poll(self) -> None:
        if self._work is None or not self._work.ended:
            return
        work, self._work = self._work, None
        try:
            self.finished(work)
        except Exception as error:
            self.guide.fail(error)


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
