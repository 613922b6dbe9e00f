"""Screen 2: settings. Each change goes through the code that also checks options, and its complaint is shown as it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.events import DescendantFocus
from textual.widgets import Input, Static

from nqrust.guide import fields, join, texts
from nqrust.guide.backend import Answers
from nqrust.guide.fields import Field, Group, Kind
from nqrust.guide.screens.base import Step
from nqrust.guide.texts import Line
from nqrust.guide.widgets import Choice, Keys, Row, Title, control_id, styled
from nqrust.host.secret import Secret
from nqrust.installer.engine.errors import UsageError


class SettingsScreen(Step):
    STEP = 1
    KEYS = "Up/Down move   Left/Right choose   Ctrl+N continue   Esc back   Ctrl+C quit"
    BINDINGS: ClassVar = [
        Binding("ctrl+n", "proceed", priority=True),
        Binding("enter,down", "app.focus_next", priority=True),
        Binding("up", "app.focus_previous", priority=True),
        Binding("escape", "back", priority=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._rows: dict[str, Row] = {}
        self._heads: dict[str, Static] = {}
        self._changed = Answers()  # what the form shows; the state has it as soon as it is valid together
        self._wrong: tuple[str, UsageError] | None = None
        self._focused = ""

    def compose(self) -> ComposeResult:
        self._changed = self.state.answers
        yield Title(self.STEP)
        with VerticalScroll(id="body", can_focus=False):
            for group in fields.GROUPS:
                yield from self._group(group)
        yield Static(id="about", classes="about")
        yield Keys(self.KEYS)

    def _group(self, group: Group) -> Iterable[Static | Row]:
        self._heads[group.title] = Static(group.title, classes="head")
        yield self._heads[group.title]
        for field in group.fields:
            self._rows[field.key] = Row(field, self._choices(field), self._value(field))
            yield self._rows[field.key]

    def _choices(self, field: Field) -> tuple[tuple[str, str], ...]:
        return texts.exposure_choices(self.state.found) if field.key == fields.EXPOSURE else field.choices

    def _value(self, field: Field) -> str:
        return fields.shown_value(field, self.state.found, self._changed.settings)

    def on_mount(self) -> None:
        self._update()
        self._rows["mode"].control.focus()

    # --- from the form to the settings

    @on(Choice.Changed)
    def _chosen(self, event: Choice.Changed) -> None:
        self._commit(self._key_of(event.choice), event.choice.value)

    @on(Input.Blurred)
    @on(Input.Submitted)
    def _typed(self, event: Input.Blurred | Input.Submitted) -> None:
        self._commit(self._key_of(event.input), event.input.value)

    @on(Input.Changed)
    def _pasted(self, event: Input.Changed) -> None:
        """A join line arrives whole, by a paste: take it at once."""
        if self._key_of(event.input) == fields.JOIN and "--join-token-file" in event.value:
            self._commit(fields.JOIN, event.value)

    def _key_of(self, control: Choice | Input) -> str:
        return next(key for key, row in self._rows.items() if row.control is control)

    def _commit(self, key: str, text: str) -> bool:
        """Take the value of a field. Returns whether it is valid with the others."""
        field = fields.FIELDS[key]
        if self._wrong is None and field.kind is not Kind.secret and text == self._value(field):
            return True
        before = self._wrong
        try:
            self._changed = self._with(field, text)
            self.state.answer(self._changed)
            self._wrong = None
        except UsageError as error:
            same = before is not None and before[1].what == error.what
            self._wrong = (before[0], error) if before is not None and same else (key, error)
        self._update()
        return self._wrong is None

    def _with(self, field: Field, text: str) -> Answers:
        """Return the answers with another value of a field. Raises UsageError for a line that is no join line."""
        settings, secrets = dict(self._changed.settings), dict(self._changed.secrets)
        if field.key == fields.JOIN:
            if not text.strip():
                return self._changed
            pasted = join.answers(text)
            return Answers({**settings, **pasted.settings}, {**secrets, **pasted.secrets})
        if field.kind is Kind.secret:
            secrets.pop(field.key, None)
            return Answers(settings, {**secrets, field.key: Secret(text)} if text else secrets)
        if field.key == fields.EXPOSURE:
            return Answers({**settings, **fields.exposed(text, self.state.found)}, secrets)
        settings.pop(field.key, None)
        text = text.strip()
        if text:
            settings[field.key] = text == "true" if text in ("true", "false") else text
        return Answers(settings, secrets)

    # --- from the settings to the form

    def _update(self) -> None:
        """Show the rows that have an effect now, with their values."""
        found = self.state.found
        settings = fields.together(self._changed.settings, found)
        for group in fields.GROUPS:
            shown = [field for field in group.fields if field.applies(settings)]
            self._heads[group.title].display = bool(shown)
            for field in group.fields:
                row, value = self._rows[field.key], self._value(field)
                row.display = field in shown
                row.mark(field.key == self._focused, self._wrong is not None and self._wrong[0] == field.key)
                if isinstance(row.control, Choice):
                    row.control.show(self._choices(field), value)
                elif field.kind is Kind.text and row.control.value != value:
                    row.control.value = value
        self._say()

    def _say(self) -> None:
        self.query_one("#about", Static).update(styled(self._about()))

    def _about(self) -> Iterable[Line]:
        if self._wrong is not None:
            error = self._wrong[1]
            yield "bad", f"{error.code}  {error.what}"
            yield "plain", f"cure: {error.cure}"
            return
        if self._focused:
            yield "plain", fields.FIELDS[self._focused].help
        yield texts.subnet_line(self.state.found, self.state.look)

    @on(DescendantFocus)
    def _focus_moved(self, event: DescendantFocus) -> None:
        key = next((key for key, row in self._rows.items() if row.control is event.widget), "")
        before, self._focused = self._focused, key
        for one in (before, key):
            if one:
                self._rows[one].mark(one == key, self._wrong is not None and self._wrong[0] == one)
        self._say()

    # --- keys

    def action_proceed(self) -> None:
        row = self._rows.get(self._focused)
        if row is not None and isinstance(row.control, Input) and not self._commit(self._focused, row.control.value):
            return
        if self._wrong is not None:
            self._rows[self._wrong[0]].control.focus()
            return
        self.guide.go("review")

    def action_back(self) -> None:
        self.guide.go("host")


__all__ = ["SettingsScreen", "control_id"]
