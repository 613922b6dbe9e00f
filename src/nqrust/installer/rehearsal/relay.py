"""Sorts the clone's lines: events of the install go to the reporters, measurements into the report."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from nqrust.installer.engine import events as engine_events
from nqrust.installer.engine.events import Event, Notice, PhaseFinished, PhaseStarted, Reporter
from nqrust.installer.rehearsed import Heard, Measured, WrittenPath
from nqrust.installer.reporting.jsonl import event_name

_EVENTS: dict[str, type[Event]] = {
    event_name(kind): kind
    for kind in vars(engine_events).values()
    if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
}
_OUTPUT_LINES = 20


def hear(line: str, heard: Heard, events: Reporter) -> None:
    """Process one line. Keeps text that is not an nqr object as the clone's last output."""
    found = _object(line)
    if found is None:
        _output(heard, line)
        return
    kind = found.pop("type")
    if kind == "clone_started":
        heard.started, heard.left_out = True, list(found["left_out"])
        events.emit(Notice("info", "The clone of this host is up; the install runs in it from here on."))
    elif kind == "clone_without_network":
        heard.without_network = found["reason"]
        events.emit(Notice(
            "warning", f"The clone has no network, because slirp4netns is missing: {found['reason']}.", "NQR-RHS-010",
            "Make the package archive reachable or install the package slirp4netns, then rehearse again.",
        ))  # fmt: skip
    elif kind == "clone_failed":
        heard.reason = found["reason"]
    elif kind == "clone_written":
        heard.paths.append(WrittenPath(found["sign"], found["path"], found["size"]))
    elif kind == "clone_measured":
        heard.differences.append(Measured(found["section"], found["sign"], found["key"], found["text"]))
    elif kind == "clone_done":
        heard.code, heard.seconds = found["code"], found["seconds"]
    elif kind == "clone_output":
        _output(heard, found["text"])
    elif kind == "summary":
        heard.summary = found
    elif kind in _EVENTS:
        event = _event(_EVENTS[kind], found)
        if isinstance(event, (PhaseStarted, PhaseFinished)):
            heard.in_preflight = isinstance(event, PhaseStarted) and event.name == "preflight"
        if isinstance(event, Notice) and heard.in_preflight and event.severity != "error":
            return  # preflight on the host itself has reported it before
        events.emit(event)


def _event(kind: type[Event], found: dict[str, Any]) -> Event:
    fields = {field.name for field in dataclasses.fields(kind)}
    kept = {name: tuple(value) if isinstance(value, list) else value for name, value in found.items() if name in fields}
    return kind(**kept)


def _object(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("type"), str) else None


def _output(heard: Heard, text: str) -> None:
    if text.strip():
        heard.output = [*heard.output, text.strip()][-_OUTPUT_LINES:]
