"""Lists as tables on wide screens and as cards on narrow ones (Quasar's QTable in both).

Cells are Vue templates that see `props.row`; Vue escapes what they show. A button in them emits an event of the table
with the row's key, which arrives at a Python handler.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from nicegui import ui
from nicegui.events import GenericEventArguments

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
        return {"name": self.name, "label": self.label, "field": self.sort or self.name, "align": self.align,
                "sortable": bool(self.sort)}


def button(icon: str, verb: str, event: str, key: str, shown: str = "true", danger: bool = False) -> str:
    """A small button of a row. `shown`: a Vue expression."""
    tone = "danger" if danger else "bare"
    return (
        f'<q-btn v-if="{shown}" flat dense class="icon {tone}" icon="{icon}" :aria-label="\'{verb} \' + props.row.{key}" '
        f"@click.stop=\"$parent.$emit('{event}', props.row.{key})\"><q-tooltip :delay=\"400\">{verb}</q-tooltip></q-btn>"
    )


class Listing:
    """A table of rows identified by `key`. `card` is the template of an entry on a narrow screen; `card_foot` stands to
    the left of its buttons."""

    def __init__(
        self, columns: list[Column], *, key: str, card: str, card_foot: str = "", actions: str = "", handlers: dict[str, RowHandler] | None = None,
        search: bool = False,
    ) -> None:
        definitions = [column.definition() for column in columns]
        if actions:
            definitions.append({"name": "actions", "label": "", "field": key, "align": "right", "sortable": False})
        self.table = ui.table(rows=[], columns=definitions, row_key=key, pagination=25).classes("table")
        self.table.props('flat :grid="Quasar.Screen.lt.md" :rows-per-page-options="[25, 50, 100]"')
        for column in columns:
            if column.cell:
                self.table.add_slot(f"body-cell-{column.name}", f'<q-td :props="props">{column.cell}</q-td>')
        if actions:
            self.table.add_slot(
                "body-cell-actions", f'<q-td :props="props" class="nowrap" auto-width>{actions}</q-td>')
        foot = f'<div class="foot"><span class="left">{card_foot}</span>{actions}</div>' if actions or card_foot else ""
        self.table.add_slot("item", f'<div class="entry">{card}{foot}</div>')
        self.table.add_slot("no-data", '<div class="muted">Nothing fits.</div>')
        if search:
            with self.table.add_slot("top-left"):
                field = ui.input(placeholder="Search").props('clearable aria-label="Search"')
                with field.add_slot("prepend"):
                    ui.icon("search")
            field.bind_value_to(self.table, "filter")
        for event, handler in (handlers or {}).items():
            self.table.on(event, _calling(handler))
        self._rows: list[Row] = []

    def show(self, rows: list[Row]) -> None:
        """Send rows to the browser, unless they are those it has."""
        if rows != self._rows:
            self._rows = rows
            self.table.rows = rows
            self.table.props["hide-pagination"] = len(rows) <= 25
            self.table.update()


def _calling(handler: RowHandler) -> Callable[[GenericEventArguments], Coroutine[Any, Any, None]]:
    async def called(event: GenericEventArguments) -> None:
        key = event.args[0] if isinstance(event.args, list) else event.args
        if isinstance(key, str):
            await handler(key)

    return called
