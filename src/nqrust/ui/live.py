"""A part of a page that follows the manager: loading, error, empty, or content, updated while it is visible."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from nicegui import ui
from nicegui.element import Element

from nqrust.client.manager import ClientError, Refused
from nqrust.ui import parts, session

T = TypeVar("T")


class Live(Generic[T]):
    """Calls `fetch` every `every` seconds and shows the result.

    `build(data)` creates the content once, and returns an updater for newer data. `empty(data)`: whether there is nothing to
    show;
    then `when_empty()` creates the view. An error keeps the last content and appears above it.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[T]],
        build: Callable[[T], Callable[[T], None]],
        *,
        empty: Callable[[T], bool] = lambda data: False,
        when_empty: Callable[[], None] | None = None,
        every: float = 2.0,
    ) -> None:
        self._fetch, self._build, self._empty, self._when_empty = fetch, build, empty, when_empty
        self._update: Callable[[T], None] | None = None
        self._view = ""
        self._failing = False
        self._busy = False
        self.data: T | None = None
        self._trouble = parts.box("full")
        self._trouble.set_visibility(False)
        self._place = parts.box("full")
        self._show("loading", self._skeleton)
        self._timer = ui.timer(every, self.refresh)

    async def refresh(self) -> None:
        """Fetch now and show it."""
        if self._busy:
            return
        self._busy = True
        try:
            data = await self._fetch()
        except ClientError as error:
            self._failed(error)
        else:
            self._came(data)
        finally:
            self._busy = False

    def _came(self, data: T) -> None:
        self.data = data
        if self._failing:
            self._failing = False
            self._trouble.set_visibility(False)
        if self._empty(data) and self._when_empty is not None:
            if self._view != "empty":
                self._show("empty", self._when_empty)
        elif self._view != "content" or self._update is None:
            self._show("content", lambda: self._keep(self._build(data)))
        else:
            self._update(data)

    def _keep(self, update: Callable[[T], None]) -> None:
        self._update = update

    def _failed(self, error: ClientError) -> None:
        if parts.lost_session(error):
            self._timer.deactivate()
            session.forget()
            ui.navigate.to("/sign-in")
            return
        if isinstance(error, Refused) and error.status == 404 and self._view == "content":
            self._timer.deactivate()
        self._failing = True
        self._trouble.clear()
        with self._trouble:
            note = parts.explain(error) + (" This page shows earlier data." if self._view in ("content", "empty") else "")
            with parts.box("notice bad").props('role="alert"'):
                ui.icon("cloud_off")
                parts.text(note, "grow")
                parts.quiet("Try again", self._again)
        self._trouble.set_visibility(True)
        if self._view == "loading":
            self._place.clear()
            self._view = "error"

    async def _again(self) -> None:
        self._timer.activate()
        await self.refresh()

    def _show(self, view: str, make: Callable[[], None]) -> None:
        self._place.clear()
        self._update = None
        self._view = view
        with self._place:
            make()

    @staticmethod
    def _skeleton() -> None:
        with parts.box("skeletons").props('role="status" aria-label="Loading"'):
            for width in (100, 92, 96):
                ui.skeleton(animation="fade").style(f"width: {width}%; height: 44px")

    @property
    def element(self) -> Element:
        return self._place
