"""uninstall and rollback: the receipt, reversed."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import replace

import rich

import nqrust.host
import nqrust.installer
from nqrust.contract import paths
from nqrust.host.content import content
from nqrust.host.errors import HostError
from nqrust.host.port import Host, Kind
from nqrust.installer.engine.errors import Interrupted, StepFailed
from nqrust.installer.engine.events import (
    Notice,
    NullReporter,
    PhaseFinished,
    PhaseStarted,
    Reporter,
    RunStarted,
)
from nqrust.installer.engine.interrupt import Interruption, watching
from nqrust.installer.engine.receipt import Entry, Receipt, unfinished_entries
from nqrust.installer.engine.rollback import RollbackResult, roll_back
from nqrust.installer.engine.runner import new_run_id
from nqrust.installer.engine.undo_record import Retain
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.operations import leftovers, proof_of_clean, refusals, reinstating, taking_back
from nqrust.installer.operations.belongings import Belongings
from nqrust.installer.operations.gate import Prospect, carry_out
from nqrust.installer.operations.site import ChangingSite, Site, open_site
from nqrust.installer.operations.taking_back import retaining, undo_context
from nqrust.installer.release import bootstrap_record
from nqrust.installer.request import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    PhaseSummary,
    Request,
    Summary,
)
from nqrust.installer.verbs.file.undo import KEPT_SUFFIX
from nqrust.installer.verbs.registry import VERBS
from nqrust.installer.verbs.script import whole as script


def _timed(done: Summary, host: Host, began: float) -> Summary:
    return replace(done, seconds=host.monotonic() - began)


def uninstall(request: Request, events: Reporter) -> Summary:
    """Undo everything on the receipt, newest first. Flags decide about data, database and packages. A signal stops it after the
    current step. Once nqr itself is gone, no signal does."""

    def look(site: Site) -> Prospect:
        return Prospect(lambda: taking_back.of_uninstall(site, request.run), change)

    def change(site: ChangingSite) -> Summary:
        with _watching(request, events, "finishing the current step"):
            return _uninstall(site, request, events)

    return carry_out(request, "uninstall", events, look)


def rollback(request: Request, events: Reporter) -> Summary:
    """Undo an unfinished run, otherwise the last run that changed anything. A signal does not stop it."""

    def look(site: Site) -> Prospect:
        ids = set(unfinished_entries(site.receipt))
        refusals.of_rotation(site.receipt, ids)
        before = reinstating.settings_before(site.receipt, ids) if reinstating.has_retired(site.journal, ids) else None
        if before is not None:
            return reinstating.going_back(site, before, request, events)
        refusals.of_users(Belongings(site).spared.of_users(site.receipt.to_undo(ids)))
        return Prospect(lambda: taking_back.of_rollback(site), change)

    def change(site: ChangingSite) -> Summary:
        # As after a failed install: halfway, services would be down, or run with files of two releases.
        with _watching(request, events, "nqr completes the rollback"):
            return _rollback(site, request, events)

    return carry_out(request, "rollback", events, look)


def _watching(request: Request, events: Reporter, then: str) -> AbstractContextManager[Interruption]:
    """Keep the signals that arrive while the block runs. `then`: what nqr does about the first."""
    return watching(lambda name: events.emit(Notice("warning", f"{name} received: {then}.")), request.run.interruption)


def _rollback(site: ChangingSite, request: Request, events: Reporter) -> Summary:
    for path in leftovers.clear(site.host):
        events.emit(Notice("info", f"{path} was removed. An interrupted rehearsal had left it."))
    receipt = site.receipt
    ids = set(unfinished_entries(receipt))
    if not ids:
        if not receipt.entries:
            forget_state(site)  # of a run that was interrupted before its first change
        return Summary("ok", EXIT_OK, notes=(taking_back.nothing(receipt),))
    entries, spared = receipt.to_undo(ids), Belongings(site).spared
    refusals.of_users(spared.of_users(entries))  # again: somebody may have confirmed long after the first look
    _preload()
    run = _begin(site, "rollback", events, len(entries), ids)
    retired = reinstating.has_retired(site.journal, ids)
    result = roll_back(VERBS, UndoContext(site.host, site.originals), site.journal, run, entries, events, spared=spared)
    for id in ids:
        site.journal.append("end", id, outcome="rolled_back" if not result.failed else "failed")
    proof: tuple[str, ...] = ()
    if not result.failed and not site.receipt.entries:
        proof = proof_of_clean.tell(site.host, events, forwards=proof_of_clean.kept_forwarding(site.journal))
        _forget(site)
    else:
        site.journal.append("end", run, outcome="ok" if not result.failed else "failed")
        if retired and not result.failed:
            proof = (reinstating.BY_HAND,)
    done = _summary(result, request, "rollback", ())
    return replace(done, notes=(*done.notes, *proof))


def _uninstall(site: ChangingSite, request: Request, events: Reporter) -> Summary:
    receipt = site.receipt
    options = request.run
    left = bootstrap_record.left_alone(site.host)
    if not receipt.entries:
        _forget(site)
        return Summary(
            "ok",
            EXIT_OK,
            notes=("nqr has installed nothing on this host.", *left),
            farewell=_farewell(site.host, options.keep_packages),
        )

    retain = retaining(options)
    kept = tuple(e for e in receipt.entries if retain(e))
    going = tuple(e for e in receipt.entries if not retain(e))
    context = undo_context(site, kept)
    _preload()
    # Kept data no longer belongs to the interrupted run, so that a later failure does not undo it.
    cut_off = receipt.with_continued(run.id for run in receipt.unfinished)
    run = _begin(site, "uninstall", events, len(receipt.entries), cut_off)
    events.emit(PhaseStarted("uninstall", "Taking everything back", len(going)))
    began = site.host.monotonic()
    result = roll_back(
        VERBS, context, site.journal, run, receipt.entries, events, retain=retain, stops=_stops(site, request, events)
    )
    events.emit(PhaseFinished("uninstall", result.undone, 0, site.host.monotonic() - began))
    if result.stopped:  # the run stays without an end, so that `nqr status` names it
        return _timed(_stopped(result, request), site.host, began)
    if result.failed:
        site.journal.append("end", run, outcome="failed")
        return _timed(_summary(result, request, "uninstall", kept), site.host, began)
    if Receipt.of(site.journal).entries:
        site.journal.append("end", run, outcome="ok")
        return _timed(_summary(result, request, "uninstall", kept), site.host, began)
    proof = proof_of_clean.tell(site.host, events, forwards=proof_of_clean.kept_forwarding(site.journal))
    farewell = _farewell(site.host, options.keep_packages)
    _forget(site)
    done = _timed(_summary(result, request, "uninstall", kept, farewell), site.host, began)
    return replace(done, notes=(*done.notes, *left, *proof))


def _stops(site: ChangingSite, request: Request, events: Reporter) -> Callable[[], bool]:
    """Return a function that tells whether a signal stops the uninstall now: unless it has removed the `nqr` that would continue it.
    One that began without that, from a source tree, can be repeated from there."""
    began_with, continues = site.host.exists(paths.NQR_LINK), False

    def stops() -> bool:
        nonlocal continues
        if not request.run.interruption.came or continues:
            return False
        continues = began_with and not site.host.exists(paths.NQR_LINK)
        if continues:
            events.emit(Notice("warning", "nqr itself is removed already, so the uninstall continues to its end."))
        return not continues

    return stops


def _stopped(result: RollbackResult, request: Request) -> Summary:
    failure = Interrupted(
        "NQR-ENG-030",
        f"Stopped by {request.run.interruption.name}.",
        "Run `nqr uninstall` again to remove the rest, or `nqr install` to put the platform back.",
    )
    done = _summary(result, request, "uninstall", ())
    return replace(
        done, outcome="partly_undone", exit_code=EXIT_INTERRUPTED, failure=failure, notes=(), log_path=request.run.log_path
    )


def undo_script(request: Request) -> str:
    """Return the requested uninstall as a shell script that needs neither nqr nor Python. Changes nothing. Raises NqrError."""
    site = open_site(NullReporter())
    retain, entries = retaining(request.run), site.receipt.entries
    kept = tuple(e for e in entries if retain(e))
    last = "" if kept else f"{taking_back.forget_script()}{_farewell(site.host, request.run.keep_packages)}"
    return script.render(undo_context(site, kept), entries, retain=retain, epilogue=last)


def _begin(site: ChangingSite, verb: str, events: Reporter, steps: int, continues: Iterable[str]) -> str:
    """Begin a run and return its id. `continues`: the runs it takes over, which also resume if this run is interrupted."""
    run = new_run_id()
    site.journal.append("run", run, verb=verb, version="", settings={}, resumes=sorted(continues))
    events.emit(RunStarted(run, verb, False, steps))
    return run


def _forget(site: ChangingSite) -> None:
    """Remove the state, the run logs and the runtime folder, because nothing is left to undo."""
    forget_state(site)
    for path in taking_back.FORGOTTEN:
        site.host.remove_tree(path)


def forget_state(site: ChangingSite) -> None:
    """Remove the journal and the saved originals, but no edit that was moved aside. The journal goes last, so that a run after an
    interruption finds an empty receipt and comes here again."""
    host = site.host
    if host.exists(paths.STATE_DIR):
        _clear(site, paths.STATE_DIR)
        site.journal.discard()
        with contextlib.suppress(HostError):  # a mount point, or the place of such an edit
            host.rmdir(paths.STATE_DIR)


def _clear(site: ChangingSite, folder: str) -> None:
    host = site.host
    for name in content(host, folder):
        path = f"{folder}/{name}"
        stat = host.stat(path)
        if KEPT_SUFFIX in name or path == paths.JOURNAL:
            continue
        if stat is None or stat.kind is not Kind.directory:
            host.remove(path)
        elif folder == paths.STATE_DIR and host.glob(f"{path}/*{KEPT_SUFFIX}*"):  # nqr writes no file below that
            _clear(site, path)
        else:
            host.remove_tree(path)


def _farewell(host: Host, keep_packages: bool) -> str:
    """Return shell commands that remove the bootstrap's cache and packages. They run after this program, which runs from that
    cache, has exited."""
    record = bootstrap_record.read(host)
    return "" if record is None else bootstrap_record.farewell(record, keep_packages=keep_packages)


def _preload() -> None:
    """Import every module that may be needed later, because the uninstall removes this program's environment."""
    for package in (nqrust.installer, nqrust.host, rich):
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not found.name.endswith(("__main__", ".env_exec")):
                with contextlib.suppress(ImportError):
                    importlib.import_module(found.name)


def _summary(result: RollbackResult, request: Request, name: str, kept: tuple[Entry, ...], farewell: str = "") -> Summary:
    notes = [f"Left on purpose: {text}." for text in result.kept]
    if any(e.retain is Retain.data for e in kept):
        notes.append("VM disks and images stay. `--purge-data` removes them.")
    if any(e.retain is Retain.database for e in kept):
        notes.append("The database and PostgreSQL stay. `--drop-database` removes them.")
    else:
        notes += [f"{why}." for why in result.waits]
    if any(e.retain is Retain.packages for e in kept):
        notes.append("Packages stay (--keep-packages).")
    failure = None
    if result.failed:
        failure = StepFailed(
            "NQR-ENG-005",
            f"Not everything could be undone; the first of {len(result.failed)}: {result.failed[0]}.",
            "Fix the cause and run the same command again. nqr keeps a record of the rest.",
        )
    return Summary(
        "partly_undone" if failure else "ok",
        EXIT_FAILED if failure else EXIT_OK,
        changed=result.undone,
        phases=(PhaseSummary(name, result.undone),),
        notes=tuple(notes),
        farewell=farewell,
        failure=failure,
        log_path=request.run.log_path if failure else "",
    )
