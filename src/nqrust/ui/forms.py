"""Dialogs with fields, error messages and buttons."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from nicegui import ui
from nicegui.element import Element
from nicegui.elements.mixins.validation_element import ValidationElement
from pydantic import ValidationError

from nqrust.client.manager import ClientError
from nqrust.contract.text import first_fault
from nqrust.ui import parts
from nqrust.ui.fields import Wrong

_FIELDS = (ui.input, ui.number, ui.select, ui.textarea)


class Trouble(Element):
    """The error area below a form, which screen readers announce."""

    def __init__(self) -> None:
        super().__init__("div")
        self.props('role="alert"').classes("notice bad")
        with self:
            ui.icon("error_outline")
            with parts.box("grow"):
                self._said = parts.text("", tag="span")
                self._code = parts.text("", "code nowrap", tag="span")
        self.set_visibility(False)

    def say(self, wrong: ClientError | ValidationError | Wrong | str) -> None:
        if isinstance(wrong, ClientError):
            said, code = f"{parts.with_cure(wrong)} ", f"({wrong.code})"
        else:
            said, code = complaint(wrong) if isinstance(wrong, ValidationError) else str(wrong), ""
        self._said.say(said)
        self._code.say(code)
        self.set_visibility(True)
        self.run_method("scrollIntoView", {"block": "nearest"})

    def clear_away(self) -> None:
        self.set_visibility(False)


def complaint(error: ValidationError) -> str:
    """Return the first fault of a form, in a sentence."""
    where, said = first_fault(error.errors())
    return f"{where.replace('_', ' ')}: {said}".strip(": ")


class FormDialog:
    """A form in a dialog. Enter submits it, Escape closes it, its first field has the focus.

        with FormDialog("Add a user") as form:
            name = ui.input("User name")

        async def add() -> None:
            await manager.create_user(...)
            form.done("She can sign in.")

        form.open("Add", add)

    The dialog shows errors of `add` (ClientError, ValidationError, Wrong) and stays open, also without `done`.
    """

    def __init__(self, title: str, note: str = "") -> None:
        self._dialog, self._card = parts.sheet()  # kept: events in a closed form still need it
        self._busy = False
        with self._card:
            self._form = parts.box("sheet-form", "form").props("novalidate").on("submit.prevent", self._submitted)
            self._form.on("keydown.capture.escape", self._left)
        with self._form:
            parts.text(title, tag="h2")
            if note:
                parts.text(note, "muted", tag="p")

    def __enter__(self) -> FormDialog:
        self._form.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._form.__exit__()

    def open(self, verb: str, send: Callable[[], Awaitable[None]]) -> ui.button:
        """Show it. Return the submit button, labelled `verb`."""
        self._send = send
        with self._form:
            self._trouble = Trouble()
            with parts.box("buttons"):
                parts.quiet("Cancel", self._dialog.close)
                self._button = ui.button(verb).props("type=submit")
        fields = [one for one in self._form.descendants() if isinstance(one, _FIELDS) and one.visible and one.enabled]
        if fields and not any("autofocus" in field.props for field in fields):
            fields[0].props("autofocus")
        self._dialog.on("hide", self._dialog.delete)
        self._dialog.open()
        return self._button

    @property
    def is_open(self) -> bool:
        return bool(self._dialog.value) and not self._dialog.is_deleted

    def done(self, said: str) -> None:
        """Close it and show the result."""
        self._dialog.close()
        parts.done(said)

    @contextmanager
    def instead(self) -> Iterator[parts.Handler]:
        """Replace the form with the elements created inside. Yields a function that closes the dialog."""
        self._form.clear()
        with self._form:
            yield self._dialog.close

    async def _submitted(self) -> None:
        if self._busy or not self._dialog.value or not self._valid():
            return
        self._busy = True
        self._trouble.clear_away()
        self._button.props("loading")
        try:
            await self._send()
        except ClientError as error:
            if self._dialog.value:
                self._trouble.say(error)
            else:
                parts.failed(error)
        except (Wrong, ValidationError) as error:
            self._trouble.say(error)
        finally:
            self._busy = False
            if not self._button.is_deleted:
                self._button.props(remove="loading")

    def _left(self) -> None:
        """Quasar's own Escape does not pass through a loading button."""
        if self._busy:
            self._dialog.close()

    def _valid(self) -> bool:
        """Return whether all fields are valid. Invalid ones show why, and the first gets the focus."""
        wrong = [
            one for one in self._form.descendants() if isinstance(one, ValidationElement) and one.visible and not one.validate()
        ]
        for field in wrong[:1]:
            for around in field.ancestors():
                if isinstance(around, ui.expansion):
                    around.open()
            field.run_method("focus")
        return not wrong
