"""Small building blocks of pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any

from nicegui import ui
from nicegui.element import Element

from nqrust.client.manager import ClientError, Refused
from nqrust.contract.events import Event
from nqrust.ui import format as fmt

Handler = Callable[[], Awaitable[None] | None]


def text(content: str, classes: str = "", tag: str = "div") -> Text:
    """Plain text in an element; never HTML."""
    return Text(content, tag).classes(classes)


class Text(Element):
    """An element that holds text which can be changed in place."""

    def __init__(self, content: str, tag: str = "div") -> None:
        super().__init__(tag)
        self._text = content

    def say(self, content: str) -> None:
        if content != self._text:
            self._text = content
            self.update()


def box(classes: str, tag: str = "div") -> Element:
    return ui.element(tag).classes(classes)


class Badge(Text):
    """A state with its colour."""

    def __init__(self, state: str = "") -> None:
        super().__init__(state, "span")
        self._tone = fmt.tone(state)
        self.classes(f"badge {self._tone}")

    def show(self, state: str) -> None:
        tone = fmt.tone(state)
        if tone != self._tone:
            self.classes(remove=self._tone, add=tone)
            self._tone = tone
        self.say(state)


class Bar(Element):
    """A share as a bar. It warns above 80 and 95 percent, unless `warns` is False: full processor allocation is usual."""

    def __init__(self, label: str, warns: bool = True) -> None:
        super().__init__("div")
        self.props(f'role="img" aria-label="{label}"').classes("bar")
        with self:
            self._fill = ui.element("i")
        self._tone = ""
        self._warns = warns

    def show(self, part: float) -> None:
        self._fill.style(f"width: {part * 100:.1f}%")
        tone = "" if not self._warns else "bad" if part > 0.95 else "warn" if part > 0.8 else ""
        if tone != self._tone:
            self.classes(remove=self._tone, add=tone)
            self._tone = tone


def primary(label: str, on_click: Handler, icon: str | None = None) -> ui.button:
    return ui.button(label, on_click=on_click, icon=icon)


def quiet(label: str, on_click: Handler, icon: str | None = None) -> ui.button:
    return ui.button(label, on_click=on_click, icon=icon, color=None).classes("quiet")


def icon_button(icon: str, label: str, on_click: Handler) -> ui.button:
    """An icon that is named for screen readers and on hover."""
    button = ui.button(icon=icon, on_click=on_click, color=None).props(f'flat aria-label="{label}"').classes("icon bare")
    with button:
        ui.tooltip(label)
    return button


def nothing_yet(icon: str, title: str, sentence: str, label: str = "", on_click: Handler | None = None) -> None:
    """The view of a list without entries."""
    with box("empty"):
        ui.icon(icon)
        text(title, tag="h2")
        text(sentence, tag="p")
        if label and on_click is not None:
            primary(label, on_click)


def notice(content: str, tone: str = "", icon: str = "info") -> Element:
    with box(f"notice {tone}").props('role="status"') as element:
        ui.icon(icon)
        text(content, "grow")
    return element


def facts(pairs: list[tuple[str, str]]) -> dict[str, Text]:
    """Build a list of names and values. Return the values, for updates in place."""
    values: dict[str, Text] = {}
    with box("facts", "dl"):
        for name, value in pairs:
            text(name, tag="dt")
            values[name] = Text(value, "dd")
    return values


def happened(event: Event, with_subject: bool = True) -> None:
    """Build one event as an entry of a list."""
    with box("happened"):
        box(f"dot {event.severity}")
        with box("grow break"):
            text(event.message or event.reason, tag="span")
            if with_subject and event.subject_name and event.subject_name not in event.message:
                text(f" · {event.subject_name}", "muted", tag="span")
        with text(fmt.ago(event.at), "muted small nowrap"):
            ui.tooltip(fmt.clock(event.at))


MOST_SHEETS = 8
"""Dialogs of one page. People see one or two at a time, and others could open any number."""


class _Sheet(Element):
    """Keeps a dialog in its page. NiceGUI leaves a hidden element in it."""

    dialog: ui.dialog


def sheet() -> tuple[ui.dialog, AbstractContextManager[Any]]:
    """Build a dialog and its card. They belong to the page, so that they outlive the menu or list that opened them."""
    content = ui.context.client.content
    with content, _Sheet("div") as kept:
        kept.set_visibility(False)
        with ui.dialog() as dialog:
            card = ui.card().classes("sheet")
    kept.dialog = dialog
    for former in [one for one in content.default_slot.children if isinstance(one, _Sheet)][:-MOST_SHEETS]:
        if not former.dialog.is_deleted:
            former.dialog.delete()
        former.delete()
    return dialog, card


async def confirm(title: str, sentence: str, verb: str, danger: bool = True) -> bool:
    """Ask before an irreversible action. Escape means no."""
    dialog, card = sheet()
    with card:
        text(title, tag="h2")
        text(sentence, "muted", tag="p")
        with box("buttons"):
            quiet("Cancel", lambda: dialog.submit(False)).props("autofocus")
            button = ui.button(verb, on_click=lambda: dialog.submit(True))
            if danger:
                button.props("color=negative")
    answer = await dialog
    if not dialog.is_deleted:  # as when the page was left meanwhile
        dialog.delete()
    return bool(answer)


def with_cure(error: ClientError) -> str:
    """An error in a sentence or two."""
    return f"{str(error).rstrip('.')}. {error.cure}".strip()


def explain(error: ClientError) -> str:
    """Return an error with its cure and its code."""
    return f"{with_cure(error)} ({error.code})"


def failed(error: ClientError) -> None:
    """Show that the manager refused or did not answer."""
    ui.notify(explain(error), type="negative", multi_line=True, close_button="Close", timeout=12_000)


async def carry_out(call: Awaitable[object], said: str, after: Callable[[], Awaitable[object]]) -> bool:
    """Await `call`, show success, then `after`; or show the error. Return whether it succeeded."""
    try:
        await call
    except ClientError as error:
        failed(error)
        return False
    done(said)
    await after()
    return True


def done(sentence: str) -> None:
    ui.notify(sentence, type="positive", timeout=3500)


def lost_session(error: ClientError) -> bool:
    """Return whether the manager rejects the token."""
    return isinstance(error, Refused) and error.status == 401
