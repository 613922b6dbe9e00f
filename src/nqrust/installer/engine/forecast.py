"""Forecast of a revert for people: one sentence a record. It only reads, and decides as the verbs do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from nqrust.host.errors import HostError
from nqrust.installer.engine.errors import NqrError
from nqrust.installer.engine.receipt import Entry
from nqrust.installer.engine.together import with_older
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.engine.verb import Forecast, UndoContext, Verbs


def forecast(verbs: Verbs, context: UndoContext, entries: Iterable[Entry]) -> Iterator[tuple[Entry, Forecast]]:
    """Yield a forecast for all records of each entry, newest first. A forecast says so if it cannot know. Never raises
    HostError or NqrError."""
    gone: frozenset[str] = frozenset()
    waiting: list[Undo] = []
    newest_first = sorted(entries, key=lambda e: e.seq, reverse=True)
    for entry in newest_first:
        now = replace(with_older(context, entry, newest_first), staying=(*context.staying, *waiting))
        told = [undo for undo in reversed(entry.undo) if not verbs.needs_settling(undo) or entry.decides(undo)]
        found = [_of(verbs, now, undo.verb, {**undo.args, "gone": gone}) for undo in told]
        waiting += [undo for undo, one in zip(told, found, strict=True) if one.waits]
        gone = gone.union(*(one.packages for one in found))
        yield entry, Forecast(_all(found, "lines"), _all(found, "stays"), _all(found, "waits"))


def _all(found: list[Forecast], name: str) -> tuple[str, ...]:
    return tuple(text for one in found for text in getattr(one, name))


def _of(verbs: Verbs, context: UndoContext, name: str, args: dict[str, Any]) -> Forecast:
    verb = verbs.get(name)
    try:
        told = (verb.forecast(context, args) if verb else None) or verbs.words(name, args)
    except (HostError, NqrError) as error:
        told = f"cannot be foreseen: {error}"
    return told if isinstance(told, Forecast) else Forecast((told,))
