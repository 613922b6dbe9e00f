"""After a rollback: what the run that was taken back had retired comes back, by installing what is now in force again."""

from __future__ import annotations

from dataclasses import replace

from nqrust.host.errors import HostError
from nqrust.installer import planner
from nqrust.installer.engine.errors import NqrError
from nqrust.installer.engine.events import Reporter
from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.runner import Runner
from nqrust.installer.operations.site import ChangingSite, facts_for, make_context
from nqrust.installer.phases.context import Context
from nqrust.installer.request import Request

_BY_HAND = "That run had removed what is asked for again now: run `nqr install` to bring it back."


def has_retired(journal: Journal, runs: set[str]) -> bool:
    """Whether something was retired since the first of `runs` began."""
    began = min((r.seq for r in journal.records if r.type == "run" and r.run in runs), default=0)
    retiring = {r.run for r in journal.records if r.type == "run" and r.seq > began and r.body.get("retiring")}
    return any(r.type == "undone" and r.run in retiring for r in journal.records)


def reinstate(site: ChangingSite, request: Request, events: Reporter) -> tuple[str, ...]:
    """Notes about it. Another release than the one that is here now is left alone: it would be an upgrade. Raises NqrError
    where installing fails; the run is then recorded, as that of any install."""
    settings = site.installed_settings
    if settings is None:
        return ()
    context = make_context(site, replace(request, settings=settings), facts_for(site.host, settings), events)
    if not _is_current(site, context):
        return (_BY_HAND,)
    runner = Runner(site.host, site.journal, site.originals, events, keep_on_failure=True)
    result = runner.run(
        planner.plan(context), "install", context.release.version, settings.model_dump(mode="json"), retiring=True
    )
    if result.failure is not None:
        raise NqrError(result.failure.code, f"{result.failure.what} {_BY_HAND}", result.failure.cure)
    return (f"What that run had removed is here again ({result.changed} changed).",) if result.changed else ()


def _is_current(site: ChangingSite, context: Context) -> bool:
    try:
        return site.host.readlink(context.layout.current_link).endswith(f"/{context.release.version}")
    except HostError:
        return False
