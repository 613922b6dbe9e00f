"""The widgets of the screens. They use plain ASCII, so that any terminal shows them, and never colour alone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from textwrap import wrap
from typing import ClassVar

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from nqrust.guide.fields import Field, Kind
from nqrust.guide.texts import Line
from nqrust.host.secret import without_credentials

STYLES = {"bold": "bold", "dim": "", "good": "green", "bad": "bold red", "warn": "yellow", "plain": ""}
STEPS = ("Host", "Settings", "Review", "Install")


@dataclass(frozen=True)
class Lines:
    """Lines for a widget. A line that is too long continues below its own text, not below its label."""

    lines: tuple[Line, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for style, line in self.lines:
            shown = without_credentials(line)
            label = _LABEL.match(shown)
            indent = " " * min(len(label[0]) if label else 0, options.max_width // 2)
            for part in wrap(shown, options.max_width, subsequent_indent=indent, break_on_hyphens=False) or [""]:
                yield Text(part, STYLES[style], no_wrap=True)


_LABEL = re.compile(r"\s*(?:\S+(?: \S+)*?\s{2,}|\S+: |= |\+ |- |! )?")
"""The beginning of a line that stays alone in its column."""


def styled(lines: Iterable[Line]) -> Lines:
    return Lines(tuple(lines))


class Title(Static):
    """The first line: where in the four screens this is."""

    def __init__(self, step: int) -> None:
        words = [f"[{name}]" if number == step else name for number, name in enumerate(STEPS)]
        line = f"NQRust-MicroVM   {' > '.join(words)}"
        super().__init__(Text(f"{line:<500}", no_wrap=True, overflow="crop"), classes="title")


@dataclass(frozen=True)
class Packed:
    """Words in groups, which three spaces part. A line break never divides a group."""

    words: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = [""]
        for group in self.words.split("   "):
            longer = f"{lines[-1]}   {group}" if lines[-1] else group
            if len(longer) <= options.max_width:
                lines[-1] = longer
            else:
                lines.append(group)
        yield Text("\n".join(lines), no_wrap=True)


class Keys(Static):
    """The last lines: the keys of this screen."""

    def __init__(self, keys: str) -> None:
        super().__init__(Packed(keys), classes="keys", id="keys")

    def show(self, keys: str) -> None:
        self.update(Packed(keys))


class Choice(Widget, can_focus=True):
    """One of some values, on one line. Left, right and space change it."""

    BINDINGS: ClassVar = [
        Binding("left", "turn(-1)", show=False),
        Binding("right,space", "turn(1)", show=False),
    ]

    class Changed(Message):
        def __init__(self, choice: Choice) -> None:
            super().__init__()
            self.choice = choice

    def __init__(self, choices: tuple[tuple[str, str], ...], value: str, id: str) -> None:
        super().__init__(id=id, classes="control")
        self.choices, self.value = choices, value

    def show(self, choices: tuple[tuple[str, str], ...], value: str) -> None:
        if (choices, value) != (self.choices, self.value):
            self.choices, self.value = choices, value
            self.refresh()

    def action_turn(self, by: int) -> None:
        values = [value for value, _ in self.choices]
        here = values.index(self.value) if self.value in values else -by
        self.value = values[(here + by) % len(values)]
        self.refresh()
        self.post_message(self.Changed(self))

    def render(self) -> Text:
        words = next((words for value, words in self.choices if value == self.value), "")
        shown = words if self.value in ("true", "false") else self.value
        text = Text(f"< {shown} >", style="bold" if self.has_focus else "", no_wrap=True, overflow="ellipsis")
        if self.value not in ("true", "false") and words:
            text.append(f" {words}", "not bold")
        return text


class Row(Horizontal):
    """A field with its label. The mark `>` shows the focus without colour."""

    def __init__(self, field: Field, choices: tuple[tuple[str, str], ...], value: str) -> None:
        super().__init__(classes="row")
        self.field = field
        name = control_id(field.key)
        self.control: Choice | Input
        if field.kind is Kind.choice:
            self.control = Choice(choices, value, name)
        else:
            secret = field.kind is Kind.secret
            self.control = Input(value, field.placeholder, id=name, compact=True, password=secret, classes="control")
        self.label = Static(Text(f"  {field.label}"), classes="label")

    def compose(self) -> ComposeResult:
        yield self.label
        yield self.control

    def mark(self, focused: bool, wrong: bool) -> None:
        sign = "!" if wrong else ">" if focused else " "
        self.label.update(Text(f"{sign} {self.field.label}", style="bold" if focused or wrong else ""))


def control_id(key: str) -> str:
    return "of-" + key.replace(".", "-").replace("_", "-").lower()
