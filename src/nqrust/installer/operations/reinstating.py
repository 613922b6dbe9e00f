"""`nqr rollback` of a run that retired something: it installs the earlier settings again.

Undo records can remove things, but not create them. So this rollback is a forward run of its own. It creates the retired
parts and retires the parts that the other run added. Like every run, it can be resumed and undone.
"""

from __future__ import annotations

from dataclasses import replace

from pydantic import ValidationError

from nqrust.installer import planner
from nqrust.installer.engine.events import Notice, Reporter
from nqrust.installer.engine.interrupt import watching
from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.receipt import Receipt
from nqrust.installer.engine.runner import Runner
from nqrust.installer.operations import refusals, summary
from nqrust.installer.operations.belongings import Belongings
from nqrust.installer.operations.gate import Prospect
from nqrust.installer.operations.preview import Previewer
from nqrust.installer.operations.site import ChangingSite, Site, facts_for, make_context
from nqrust.installer.platform.release_link import CurrentLink
from nqrust.installer.preflight import changes, downgrade
from nqrust.installer.release.keep_step import KeepRelease
from nqrust.installer.request import PlanPreview, Request, Summary
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.registry import VERBS

BY_HAND = "That run had also removed parts of the restored settings. Run `nqr install` to add them again."


def has_retired(journal: Journal, runs: set[str]) -> bool:
    """Return whether a run has retired anything since the first of `runs` began."""
    began = min((r.seq for r in journal.records if r.type == "run" and r.run in runs), default=0)
    retiring = {r.run for r in journal.records if r.type == "run" and r.seq > began and r.body.get("retiring")}
    return any(r.type == "undone" and r.run in retiring for r in journal.records)


def settings_before(receipt: Receipt, runs: set[str]) -> Settings | None:
    """Return the settings in force before `runs`. None if there were none, or if these runs changed the release: undo records
    restore its files."""
    if any(e.kind in (CurrentLink.kind, KeepRelease.kind) for e in receipt.of_runs(runs)):
        return None
    first = next((n for n, run in enumerate(receipt.runs) if run.id in runs), 0)
    raw = replace(receipt, runs=receipt.runs[:first]).last_settings
    try:
        return Settings.model_validate(raw) if raw else None
    except ValidationError:  # from a version of nqr whose settings this one cannot read
        return None


def going_back(site: Site, settings: Settings, request: Request, events: Reporter) -> Prospect:
    """Return the prospect of installing `settings` again. Raises NqrError if that cannot begin."""
    asked = replace(request, settings=settings)
    facts = facts_for(site.host, settings)
    refusals.refuse(list(changes.checks(settings, site.installed_settings, facts, site.vms)), events)
    context = make_context(site, asked, facts, events, going_back=True)
    # The settings may name a moving address, which could serve an older release by now.
    older = downgrade.checks(settings, site.host, context.release.version, context.files.signed_by, allowed=False)
    refusals.refuse(list(older), events)
    whole = planner.plan(context)

    def preview() -> PlanPreview:
        previewer = Previewer("rollback")
        Runner(VERBS, site.host, site.journal, site.originals, previewer).preview(whole, retiring=True)
        return previewer.preview

    def change(site: ChangingSite) -> Summary:
        with watching(lambda name: events.emit(Notice("warning", f"{name} received: finishing the current step."))) as signals:
            spared = Belongings(site).spared
            runner = Runner(VERBS, site.host, site.journal, site.originals, events, signals, spared=spared)
            result = runner.run(whole, "install", context.release.version, settings.model_dump(mode="json"), retiring=True)
        done = summary.finished(result, (), context, asked)
        again = ("The settings from before that run apply again.",) if result.failure is None else ()
        return replace(done, notes=(*done.notes, *again))

    return Prospect(preview, change)
