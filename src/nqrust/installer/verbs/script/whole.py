"""The same undo as a POSIX shell script, for hosts where nqr, or Python, is gone.

The `shell` of a verb's folder turns each record into calls of its functions; the script contains originals as base64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from nqrust.installer.engine.receipt import Entry
from nqrust.installer.engine.together import with_older
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.registry import VERBS
from nqrust.installer.verbs.script.prelude import PRELUDE
from nqrust.installer.verbs.service.shell import start_of
from nqrust.installer.verbs.shell_words import call


def render(context: UndoContext, entries: Iterable[Entry], *, retain: Callable[[Entry], bool], epilogue: str = "") -> str:
    """Return the whole script. `entries` from the receipt; `epilogue`: commands after success.

    Raises StepFailed NQR-ENG-004 when an original is missing, JournalError NQR-ENG-014 for a verb we do not know.
    """
    everything = sorted(entries, key=lambda e: e.seq, reverse=True)
    newest_first = [e for e in everything if not retain(e)]
    parts = [PRELUDE, *(f"{line}\n" for entry in everything if retain(entry) for line in that_stays(context, entry))]
    parts += [f"{line}\n" for line in VERBS.rest_script(undo for entry in newest_first for undo in entry.undo)]
    states: dict[str, tuple[Entry, Undo]] = {}  # a unit's oldest record has its original state
    for entry in newest_first:
        parts.append(f"\n# undo: {' '.join(entry.describe.split())}\n")
        now = with_older(context, entry, newest_first)
        for undo in reversed(entry.undo):
            parts.append("".join(f"{line}\n" for line in lines_of(now, undo)))
            if undo.verb == "unit":
                states[str(undo.args["name"])] = entry, undo
    parts.append("\nif with_systemd; then try systemctl daemon-reload; fi\n")
    parts += [f"{start_of(undo.args)}\n" for entry, undo in states.values() if VERBS.needs_settling(undo) and entry.decides(undo)]
    parts.append(
        '\nif [ "$failed" -gt 0 ]; then\n    echo "$failed things could not be undone; run this again." >&2\n    exit 1\nfi\n'
    )
    return "".join(parts) + epilogue + "echo 'Done.'\n"


def that_stays(context: UndoContext, entry: Entry) -> Iterator[str]:
    """Yield calls that say what stays with this entry, so that no folder around it goes, and that remove its halves."""
    for undo in entry.undo:
        if undo.half:
            yield from lines_of(context, undo)
        elif undo.path:
            yield call("stays", undo.path)


def lines_of(context: UndoContext, undo: Undo) -> Iterator[str]:
    """Yield calls for one record. Raises JournalError NQR-ENG-014 for an unknown verb."""
    return VERBS.script(context, undo)
