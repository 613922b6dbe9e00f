"""rotate: replaces the secrets of an installation while it runs.

A rotation only goes forward: old secrets never come back. After a failure or a kill, a second run finishes it.
"""

from __future__ import annotations

from dataclasses import replace

from nqrust.host.errors import HostError
from nqrust.installer import secret_store
from nqrust.installer.context import Context
from nqrust.installer.engine.errors import NqrError, UsageError
from nqrust.installer.engine.events import Fanout, Notice, NullReporter, Reporter
from nqrust.installer.engine.interrupt import watching
from nqrust.installer.engine.plan import Plan
from nqrust.installer.engine.runner import Runner, RunResult
from nqrust.installer.operations import summary
from nqrust.installer.operations.gate import Prospect, carry_out
from nqrust.installer.operations.preview import Previewer
from nqrust.installer.operations.site import ChangingSite, Site, facts_for, make_context
from nqrust.installer.phases.rotation import Turn, hosts_left, manager_answers, turns
from nqrust.installer.request import PhaseSummary, PlanPreview, Request, Summary
from nqrust.installer.settings.model import DbType, Settings
from nqrust.installer.verbs.registry import VERBS

VERB = "rotate"


def rotate(request: Request, names: tuple[str, ...], seconds: float, events: Reporter) -> Summary:
    """Replace the secrets that `names` names. `seconds`: how long to wait for hosts, in each turn."""

    def look(site: Site) -> Prospect:
        settings = _settings(site)
        installed = Request(settings, request.run, request.environment, request.explicit)
        context = make_context(site, installed, facts_for(site.host, settings), events, looking=True)
        _ours(context)
        found = turns(_possible(settings, names, events), _interrupted(site, context))
        _manager_runs(context, site)
        heard = events if request.run.dry_run else NullReporter()
        return Prospect(
            lambda: _preview(site, context, found, seconds, heard),
            lambda site: _rotate(site, context, found, seconds, installed, events),
        )

    return carry_out(request, VERB, events, look)


def _settings(site: Site) -> Settings:
    settings = site.installed_settings
    if settings is None or not settings.has_manager:
        raise UsageError(
            "NQR-USE-021",
            "This host has no manager, and the manager's host keeps the secrets of an installation.",
            "Run `nqr rotate` on the manager's host.",
        )
    cut_off = [run.verb for run in site.receipt.unfinished if run.verb != VERB]
    if cut_off:
        raise UsageError(
            "NQR-USE-022",
            f"A run of {cut_off[-1]} was interrupted on this host, and is not finished.",
            "Run `nqr install`, which finishes it or puts the platform back. Then rotate.",
        )
    return settings


def _ours(context: Context) -> None:
    """Refuse the rotation of secrets that the manager of another release does not know. Raises UsageError."""
    if not context.speaks_our_api:
        raise UsageError(
            "NQR-USE-029",
            "The release on this host is not this project's, and its manager cannot rotate secrets.",
            "Change the secrets with the tools of that release.",
        )


def _interrupted(site: Site, context: Context) -> str:
    """Return the turn in which the last rotation was interrupted; empty if there was none, or if the secrets show it."""
    cut_off = {run.id for run in site.receipt.unfinished}
    begun = [entry.phase for entry in site.receipt.entries if entry.run in cut_off]
    return begun[-1] if begun and not context.secrets.former_authority and not context.secrets.next_authority else ""


def _possible(settings: Settings, names: tuple[str, ...], events: Reporter) -> tuple[str, ...]:
    """Return the names without `database`, if nqr does not choose its password. Raises UsageError if nothing else is asked."""
    if "database" not in names:
        return names
    if settings.database.type is DbType.remote:
        what = f"The database is on {settings.database.host}, so nqr cannot change its password."
    elif settings.database.password_file:
        what = f"The password of the database comes from {settings.database.password_file}, so nqr does not choose it."
    else:
        return names
    cure = "Change it there, write it to a file, and run: nqr install --db-password-file FILE"
    if names == ("database",):
        raise UsageError("NQR-USE-025", what, cure)
    events.emit(Notice("info", what, "", cure))
    return tuple(name for name in names if name != "database")


def _manager_runs(context: Context, site: Site) -> None:
    try:
        manager_answers(context, site.host)
    except HostError as error:
        raise UsageError(
            "NQR-USE-023",
            f"The manager of this host does not answer: {str(error).rstrip('.')}.",
            "A rotation needs it. Start it with `nqr install`, then rotate.",
        ) from error


def _preview(site: Site, context: Context, found: tuple[Turn, ...], seconds: float, events: Reporter) -> PlanPreview:
    previewer = Previewer(VERB)
    for turn in found:
        context = replace(context, secrets=turn.change(context.secrets))
        runner = Runner(VERBS, site.host, site.journal, site.originals, Fanout((events, previewer)))
        runner.preview(Plan((turn.plan(context, seconds),)))
    return previewer.preview


def _rotate(
    site: ChangingSite, context: Context, found: tuple[Turn, ...], seconds: float, request: Request, events: Reporter
) -> Summary:
    whole = RunResult(VERB)
    told: list[str] = []
    settings = request.settings.model_dump(mode="json")
    with watching(lambda name: events.emit(Notice("warning", f"{name} received: finishing the current step."))) as interruption:
        for turn in found:
            stored = secret_store.load(site.host) or context.secrets
            context = replace(context, secrets=turn.change(stored))
            runner = Runner(VERBS, site.host, site.journal, site.originals, events, interruption, forward_only=True)
            result = runner.run(Plan((turn.plan(context, seconds),)), VERB, context.release.version, settings)
            _add(whole, result)
            if whole.failure is not None:
                break
            told.append(turn.done)
    return _summary(whole, context, request, (*told, *_left(context, site, whole.failure)))


def _add(whole: RunResult, one: RunResult) -> None:
    whole.changed += one.changed
    whole.satisfied += one.satisfied
    whole.seconds += one.seconds
    whole.phases += one.phases
    whole.resumed = whole.resumed or one.resumed
    whole.failure, whole.outcome = one.failure, one.outcome


def _left(context: Context, site: Site, failure: NqrError | None) -> tuple[str, ...]:
    """Name the hosts that the rotation did not wait for."""
    names = hosts_left(context, site.host) if failure is None else ()
    if not names:
        return ()
    return (f"Offline, so not waited for: {', '.join(names)}. They get new secrets when they are back.",)


def _summary(result: RunResult, context: Context, request: Request, notes: tuple[str, ...]) -> Summary:
    done = summary.finished(result, (), context, request)
    phases = done.phases or ((PhaseSummary(VERB, result.changed),) if result.failure else ())
    return replace(done, phases=phases, urls={}, admin_password_file="", notes=(*notes, *done.notes))
