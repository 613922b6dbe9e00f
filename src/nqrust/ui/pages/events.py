"""Events, newest first."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Request
from fastapi.responses import RedirectResponse
from nicegui import ui

from nqrust.client import calls
from nqrust.contract.events import Event, EventList
from nqrust.ui import parts, session
from nqrust.ui.frame import entrance, frame, head
from nqrust.ui.live import Live


def event_list(with_subject: bool = True) -> Callable[[EventList], Callable[[EventList], None]]:
    """Return a builder for Live: a card of events, rebuilt only when the events change."""

    def build(data: EventList) -> Callable[[EventList], None]:
        card = parts.box("card")
        shown: list[tuple[int, ...]] = []

        def fill(fresh: EventList) -> None:
            ids = tuple(event.id for event in fresh.items)
            if shown and shown[0] == ids:
                return
            shown[:] = [ids]
            card.clear()
            with card, parts.box("full"):
                for event in fresh.items:
                    parts.happened(event, with_subject)

        fill(data)
        return fill

    return build


def none_yet() -> None:
    parts.nothing_yet("history", "No events yet", "This page lists events of VMs, hosts and images.")


@ui.page("/events")
def events(request: Request) -> RedirectResponse | None:
    me = entrance(request)
    if isinstance(me, RedirectResponse):
        return me
    manager = session.connect(me.token)
    with frame(me, "/events", "Events"):
        with head("Events"):
            chosen = ui.toggle({"all": "All", "attention": "Warnings and errors"}, value="all").props("flat no-caps")

        async def fetch() -> EventList:
            found = await manager.send(calls.list_events(limit=200))
            return EventList(items=[event for event in found.items if _wanted(event, str(chosen.value))])

        live = Live(fetch, event_list(), empty=lambda data: not data.items, when_empty=none_yet, every=3.0)
        chosen.on_value_change(live.refresh)
    return None


def _wanted(event: Event, choice: str) -> bool:
    return choice == "all" or event.severity in ("warning", "error")
