"""Lists as tables on wide screens and as cards on narrow ones (Quasar's QTable in both).

Cells are Vue templates that see `props.row`; Vue escapes their output. A button in them emits an event of the table with the
row's key, for a Python handler. This server searches, sorts and pages, so a browser receives the rows of one page only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from nicegui import ui
from nicegui.events import GenericEventArguments, ValueChangeEventArguments

Row = dict[str, Any]
RowHandler = Callable[[str], Coroutine[Any, Any, None]]

BADGE = """<span :class="'badge ' + props.row.tone">{{ props.row.state }}</span>"""


@dataclass(frozen=True)
class Column:
    """`cell`: a Vue template instead of the plain value. `sort`: the field to sort by."""

    name: str
    label: str
    cell: str = ""
    sort: str = ""
    align: str = "left"

    def definition(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "label": self.label,
            "field": self.sort or self.name,
            "align": self.align,
            "sortable": bool(self.sort),
        }


def button(icon: str, verb: str, event: str, key: str, shown: str = "true", danger: bool = False, named: str = "") -> str:
    """Return a small button of a row. `key`: the field that its event carries; `shown`: a Vue expression.

    `named`: the field that names the row, if it is not `key`.
    """
    tone = "danger" if danger else "bare"
    return (
        f'<q-btn v-if="{shown}" flat dense class="icon {tone}" icon="{icon}" :aria-label="\'{verb} \' + props.row.{named or key}" '
        f'@click.stop="$parent.$emit(\'{event}\', props.row.{key})"><q-tooltip :delay="400">{verb}</q-tooltip></q-btn>'
    )


_SIZES = (25, 50, 100)


@dataclass
class View:
    """The visible part of the rows and their order. Pure."""

    page: int = 1
    size: int = _SIZES[0]
    sort: str | None = None
    descending: bool = False
    search: str = ""

    def of(self, rows: list[Row]) -> tuple[list[Row], int]:
        """Return (rows of the page, number of matches). A page past the end becomes the last one."""
        words = self.search.casefold().split()
        fitting = [row for row in rows if all(word in _said(row) for word in words)] if words else rows
        if self.sort:
            fitting = sorted(fitting, key=lambda row: natural(row.get(self.sort or "")), reverse=self.descending)
        self.page = max(1, min(self.page, -(-len(fitting) // self.size)))
        first = (self.page - 1) * self.size
        return fitting[first : first + self.size], len(fitting)


def natural(value: Any) -> list[tuple[int, float, str]]:
    """Sort numbers in names as numbers: vm-2 before vm-10."""
    if isinstance(value, (int, float)):
        return [(0, float(value), "")]
    return [
        (0, float(part), "") if part.isdecimal() else (1, 0.0, part)
        for part in re.split(r"(\d+)", str(value or "").casefold())
        if part
    ]


def _said(row: Row) -> str:
    """Return the searched text: `find` if a row has it, otherwise all its words."""
    told = row.get("find") or " ".join(value for value in row.values() if isinstance(value, str))
    return str(told).casefold()


class Listing:
    """A table of rows identified by `key`. `card` is the template of an entry on a narrow screen.

    `card_foot` goes to the left of its buttons. `search`: label of the search field; no field without it. `find`: the initial
    search.
    """

    def __init__(
        self,
        columns: list[Column],
        *,
        key: str,
        card: str,
        card_foot: str = "",
        actions: str = "",
        handlers: dict[str, RowHandler] | None = None,
        search: str = "",
        find: str = "",
    ) -> None:
        definitions = [column.definition() for column in columns]
        if actions:
            definitions.append({"name": "actions", "label": "", "field": key, "align": "right", "sortable": False})
        self._view = View(search=find)
        self._sortable = {column.name: column.sort for column in columns if column.sort}
        self._sorted_by: str | None = None
        self._all: list[Row] = []
        self._sent: object = None
        self.table = ui.table(rows=[], columns=definitions, row_key=key, pagination=self._pagination(0)).classes("table")
        self.table.props(f'flat binary-state-sort :grid="Quasar.Screen.lt.md" :rows-per-page-options="{list(_SIZES)}"')
        for column in columns:
            if column.cell:
                self.table.add_slot(f"body-cell-{column.name}", f'<q-td :props="props">{column.cell}</q-td>')
        if actions:
            self.table.add_slot("body-cell-actions", f'<q-td :props="props" class="nowrap" auto-width>{actions}</q-td>')
        foot = f'<div class="foot"><span class="left">{card_foot}</span>{actions}</div>' if actions or card_foot else ""
        self.table.add_slot("item", f'<div class="entry">{card}{foot}</div>')
        self.table.add_slot("no-data", '<div class="muted full" style="padding: 8px 0">Nothing fits.</div>')
        if search:
            with self.table.add_slot("top-left"):
                field = ui.input(placeholder=search, value=find, on_change=self._searched)
                field.props('clearable debounce=150 aria-label="Search" type=search').classes("search")
                with field.add_slot("prepend"):
                    ui.icon("search")
        for event, handler in (handlers or {}).items():
            self.table.on(event, _calling(handler))
        self.table.on("request", self._requested, ["pagination"])

    @property
    def shown(self) -> list[Row]:
        """The rows of the page."""
        return list(self.table.rows)

    def show(self, rows: list[Row]) -> None:
        """Send the page's rows to the browser, unless it has them."""
        self._all = rows
        page, fitting = self._view.of(rows)
        pagination = self._pagination(fitting)
        if (page, pagination) == self._sent:
            return
        self._sent = (page, pagination)
        self.table.rows = page
        self.table.props["pagination"] = pagination
        self.table.props["hide-pagination"] = len(rows) <= _SIZES[0]
        self.table.update()

    def _pagination(self, fitting: int) -> dict[str, Any]:
        view = self._view
        return {
            "page": view.page,
            "rowsPerPage": view.size,
            "sortBy": self._sorted_by,
            "descending": view.descending,
            "rowsNumber": fitting,
        }

    def _searched(self, event: ValueChangeEventArguments[str | None]) -> None:
        self._view.search, self._view.page = event.value or "", 1
        self.show(self._all)

    def _requested(self, event: GenericEventArguments) -> None:
        """Handle a request for another page, size or order. The browser is untrusted, so only valid values are used."""
        asked = event.args.get("pagination") if isinstance(event.args, dict) else None
        if not isinstance(asked, dict):
            return
        name = asked.get("sortBy")
        self._sorted_by = name if name in self._sortable else None
        self._view.sort = self._sortable.get(self._sorted_by or "")
        self._view.descending = bool(asked.get("descending"))
        self._view.size = asked["rowsPerPage"] if asked.get("rowsPerPage") in _SIZES else _SIZES[0]
        self._view.page = asked["page"] if isinstance(asked.get("page"), int) else 1
        self.show(self._all)


def _calling(handler: RowHandler) -> Callable[[GenericEventArguments], Coroutine[Any, Any, None]]:
    async def called(event: GenericEventArguments) -> None:
        key = event.args[0] if isinstance(event.args, list) else event.args
        if isinstance(key, str):
            await handler(key)

    return called
