"""Works out by reading what uninstall and rollback would undo, and what stays."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from nqrust.contract import paths
from nqrust.host.content import LOST_AND_FOUND
from nqrust.host.port import Host
from nqrust.installer.engine import rollback
from nqrust.installer.engine.forecast import forecast
from nqrust.installer.engine.receipt import Entry, Receipt, unfinished_entries
from nqrust.installer.engine.step import Origin
from nqrust.installer.engine.undo_record import Retain
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.operations import leftovers
from nqrust.installer.operations.belongings import Belongings
from nqrust.installer.operations.site import Site
from nqrust.installer.platform.rotation import HostsFollow
from nqrust.installer.platform.wait import Healthy
from nqrust.installer.release import bootstrap_record
from nqrust.installer.request import PhasePreview, PlanPreview, RunOptions, StaysPreview, StepPreview
from nqrust.installer.verbs.file.undo import KEPT_SUFFIX
from nqrust.installer.verbs.packages.registry import of_postgres
from nqrust.installer.verbs.registry import VERBS

FORGOTTEN = (paths.INSTALL_LOG_DIR, paths.RUN_DIR)
"""Folders that nqr removes with the state when nothing is left to undo."""
_WAITS = (Healthy.kind, HostsFollow.kind)
"""Steps that make nothing and find nothing."""


def retaining(options: RunOptions) -> Callable[[Entry], bool]:
    """Return a function that decides from the flags whether an entry stays."""
    return lambda entry: (
        (entry.retain is Retain.data and not options.purge_data)
        or (entry.retain is Retain.database and not options.drop_database)
        or (entry.retain is Retain.packages and options.keep_packages)
    )


def undo_context(site: Site, kept: tuple[Entry, ...]) -> UndoContext:
    database_stays = any(e.retain is Retain.database for e in kept)
    needed = of_postgres(site.host) if database_stays else frozenset()
    staying = tuple(undo for entry in kept for undo in entry.undo)
    return UndoContext(site.host, site.originals, needed_packages=needed, staying=staying)


def forget_script() -> str:
    """Return shell commands that remove the state, the logs of runs and the runtime folder, but no edit that was moved aside."""
    state = shlex.quote(paths.STATE_DIR)
    stays = " ".join(
        f"! -path {shlex.quote(pattern)}" for pattern in (f"*{KEPT_SUFFIX}*", f"{paths.STATE_DIR}/{LOST_AND_FOUND}*")
    )
    return (
        f"find {state} -xdev -depth -mindepth 1 {stays} -delete 2>/dev/null\n"
        f"rmdir -- {state} 2>/dev/null\n"
        f"rm -rf -- {' '.join(map(shlex.quote, FORGOTTEN))}\n"
    )


_WHY = {
    Retain.data: "VM disks and images stay; --purge-data removes them",
    Retain.database: "the database stays; --drop-database removes it",
    Retain.packages: "packages stay, as --keep-packages asks",
}


def of_uninstall(site: Site, options: RunOptions) -> PlanPreview:
    """Return the changes `uninstall` would make with these options."""
    entries, retain = site.receipt.entries, retaining(options)
    kept = tuple(e for e in entries if retain(e))
    going = (*(e for e in entries if not retain(e)), *_halves(site.host, kept))
    back, stays = _back(undo_context(site, kept), going, "uninstall")
    stays = (*(StaysPreview(e.step_id, e.describe, _WHY[e.retain]) for e in kept), *stays)
    phases = [back] if entries else []
    whole = not kept and not any(stay.recorded for stay in stays)
    phases += [_at_the_end(site.host, options.keep_packages)] if whole else []
    stays += () if whole else _bootstrap_stays(site.host, "stays until an uninstall takes back the rest")
    none = () if entries else ("nqr has installed nothing on this host.",)
    return PlanPreview("uninstall", tuple(phases), none, stays)


def _halves(host: Host, kept: Iterable[Entry]) -> Iterator[Entry]:
    """Yield what goes of entries that stay."""
    for entry in kept:
        if halves := tuple(undo for undo in entry.halves if host.exists(undo.path)):
            yield replace(entry, undo=halves)


def nothing(receipt: Receipt) -> str:
    """Return the note of a rollback that has nothing to undo."""
    if any(run.id in receipt.uninstalls for run in receipt.unfinished):
        return "Nothing was changed: an uninstall was interrupted. `nqr uninstall` finishes it; `nqr install` puts the platform back."
    return "There is nothing to roll back."


def of_rollback(site: Site) -> PlanPreview:
    """Return the changes `rollback` would make."""
    receipt = site.receipt
    entries = receipt.to_undo(set(unfinished_entries(receipt)))
    left = tuple(StepPreview(path, "rehearsal", f"remove {path}, left by a rehearsal") for path in leftovers.leftovers(site.host))
    phases = [PhasePreview("rehearsal", "What a rehearsal left", left)] if left else []
    stays: tuple[StaysPreview, ...] = ()
    if entries:
        spared = Belongings(site).spared
        copies = tuple((entry, why) for entry in entries for undo in entry.undo if (why := spared.why(undo)))
        going = tuple(replace(entry, undo=tuple(undo for undo in entry.undo if not spared.why(undo))) for entry in entries)
        staying = tuple(rollback.stays(receipt, entries, spared=spared))
        back, stays = _back(UndoContext(site.host, site.originals, staying=staying), going, "rollback")
        stays += tuple(StaysPreview(entry.step_id, entry.describe, why, recorded=True) for entry, why in copies)
        phases.append(back)
    none = () if entries else (nothing(receipt),)
    if len(entries) == len(receipt.entries) and not any(stay.recorded for stay in stays):
        state = _folders(site.host, (paths.STATE_DIR, *(FORGOTTEN if entries else ())))
        phases += [PhasePreview("state", "What nqr keeps about this host", state)] if state else []
    stays += _bootstrap_stays(site.host, "a rollback leaves it; `nqr uninstall` removes it")
    return PlanPreview("rollback", tuple(phases), none, stays)


def _back(context: UndoContext, entries: tuple[Entry, ...], name: str) -> tuple[PhasePreview, tuple[StaysPreview, ...]]:
    changes: list[StepPreview] = []
    stays: list[StaysPreview] = []
    for entry, seen in forecast(VERBS, context, entries):
        stays += [StaysPreview(entry.step_id, entry.describe, why) for why in seen.stays]
        stays += [StaysPreview(entry.step_id, entry.describe, why, recorded=True) for why in seen.waits]
        if not entry.undo and entry.origin is Origin.adopted and entry.kind not in _WAITS:
            stays.append(StaysPreview(entry.step_id, entry.describe, "it was there before nqr"))
        elif seen.lines:
            changes.append(StepPreview(entry.step_id, entry.kind, f"undo: {entry.describe}", seen.lines))
    return PhasePreview(name, "Taking everything back, newest first", tuple(changes)), tuple(stays)


def _at_the_end(host: Host, keep_packages: bool) -> PhasePreview:
    record = bootstrap_record.read(host)
    changes = list(_folders(host, (paths.STATE_DIR, *FORGOTTEN)))
    stays = list(bootstrap_record.left_alone(host))
    if record is not None:
        changes += [StepPreview(cache, "cache", f"remove {cache}, the cache of the bootstrap") for cache in record.caches]
        names = ", ".join(record.packages)
        if names and not keep_packages:
            changes.append(StepPreview("bootstrap-packages", "packages", f"remove the packages of the bootstrap: {names}"))
        elif names:
            stays.append(f"The packages of the bootstrap stay, as --keep-packages asks: {names}")
    return PhasePreview("end", "At the very end", tuple(changes), notes=tuple(stays))


def _bootstrap_stays(host: Host, why: str) -> tuple[StaysPreview, ...]:
    record = bootstrap_record.read(host)
    if record is None:
        return ()
    packages = f" and packages ({', '.join(record.packages)})" if record.packages else ""
    return (StaysPreview(record.cache, f"the bootstrap's cache {' and '.join(record.caches)}{packages}", why),)


def _folders(host: Host, folders: tuple[str, ...]) -> tuple[StepPreview, ...]:
    return tuple(StepPreview(path, "directory", f"remove {path}") for path in folders if host.exists(path))
