"""The report of a rehearsal for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nqrust.installer.fingerprint.compare import TITLES
from nqrust.installer.rehearsed import Measured, Rehearsal, groups
from nqrust.installer.reporting.wording import counted, duration
from nqrust.installer.request import Summary

SHOWN = 12
"""Maximum lines of one kind for people; programs and --report get all."""


def rehearsal_lines(found: Rehearsal, summary: Summary) -> Iterator[tuple[str, str]]:
    """Yield (style, text), with a plan's styles: phase, added, removed, context, note, total."""
    yield "phase", "Measured changes of the install in a clone of this host:"
    if not found.paths:
        yield "context", "  files: nothing"
    for group in groups(found.paths):
        numbers = ((group.created, "created"), (group.changed, "changed"), (group.removed, "removed"))
        told = ", ".join(f"{number} {word}" for number, word in numbers if number)
        yield "added", f"  {group.folder:<10} {told} ({size(group.size)})"
    for section in dict.fromkeys(one.section for one in found.differences):
        yield from _section(section, [one for one in found.differences if one.section == section])
    yield "phase", "Duration:"
    for phase in summary.phases:
        yield "context", f"  {phase.name:<10} {duration(phase.seconds)}"
    install, whole = duration(found.install_seconds), duration(found.seconds)
    yield "context", f"  {'install':<10} {install}, with its proof; the whole rehearsal {whole}"
    yield "phase", f"Foreseen by the plan: {counted(found.predicted, 'change')}; made: {summary.changed}."
    passed = sum(proof.verdict == "passed" for proof in summary.proofs)
    if summary.proofs:
        yield "phase", f"Verification: {passed} of {counted(len(summary.proofs), 'proof')} passed."
    if found.unmeasured:
        yield "phase", "Not measured:"
    for sentence in found.unmeasured:
        yield "note", f"  {sentence}"


def _section(section: str, of_it: Sequence[Measured]) -> Iterator[tuple[str, str]]:
    signs = [one.sign for one in of_it]
    named = ((signs.count("+"), "added"), (signs.count("-"), "gone"), (signs.count("~"), "changed"))
    counts = ", ".join(f"{number} {word}" for number, word in named if number)
    yield "phase", f"{TITLES.get(section, section)}: {counts}"
    for one in of_it[:SHOWN]:
        yield ("removed" if one.sign == "-" else "added"), f"  {one.text}"
    if len(of_it) > SHOWN:
        yield "context", f"  … and {len(of_it) - SHOWN} more"


def size(count: int) -> str:
    """Return bytes for people: `24 MiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"
