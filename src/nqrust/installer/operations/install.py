"""install, plan and one phase alone."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from dataclasses import replace

from nqrust.contract import paths
from nqrust.host.errors import PathMissing
from nqrust.installer import planner
from nqrust.installer.engine.errors import Interrupted, NqrError, PreflightRefused, VerifyFailed
from nqrust.installer.engine.events import Fanout, Notice, PhaseFinished, PhaseStarted, Proof, Reporter
from nqrust.installer.engine.interrupt import Interruption, watching
from nqrust.installer.engine.lock import exclusive
from nqrust.installer.engine.plan import Plan
from nqrust.installer.engine.runner import Runner, RunResult
from nqrust.installer.operations import proof_of_clean, proving, summary
from nqrust.installer.operations.preview import Previewer
from nqrust.installer.operations.remove import forget_state
from nqrust.installer.operations.site import Site, facts_for, make_context, open_site
from nqrust.installer.phases.context import Context
from nqrust.installer.phases.preflight import run as preflight
from nqrust.installer.phases.preflight.findings import Severity
from nqrust.installer.request import PlanPreview, Request, Summary
from nqrust.installer.steps.bridged import CODE as BRIDGED


def install(request: Request, events: Reporter) -> Summary:
    """Bring this host to what the request says, prove it, and tell. Errors come in the summary, never raised."""
    try:
        with exclusive(paths.LOCK_FILE, "install", events):
            return _install(request, events)
    except NqrError as error:
        return summary.refused(error, request)


def plan(request: Request, events: Reporter) -> Summary:
    """What `install` would change. Reads only; takes no lock."""
    try:
        site = open_site(events)
        planned = replace(request, run=replace(request.run, ignore_preflight=(*request.run.ignore_preflight, BRIDGED)))
        context = _checked(site, planned, events)
        previewer = Previewer("install")
        Runner(site.host, site.journal, site.originals, Fanout((events, previewer))).preview(planner.plan(context))
        return summary.previewed(previewer.preview, request)
    except NqrError as error:
        return summary.refused(error, request)


def phase_run(request: Request, name: str, events: Reporter) -> Summary:
    """One phase alone, with the same care. `name` is one of the ten."""
    try:
        with exclusive(paths.LOCK_FILE, f"phase run {name}", events):
            site = open_site(events)
            context = _checked(site, request, events)
            if name == "preflight":
                return summary.finished(RunResult("preflight"), (), context, request)
            if name == "verify":
                proofs = proving.prove(context, site.host, events, fresh=True)
                return summary.finished(RunResult("verify"), proofs, context, request)
            with _watching(events) as interruption:
                result = _run(_runner(site, request, events, interruption), planner.plan(context, only=name), context, request)
            return summary.finished(result, (), context, request)
    except NqrError as error:
        return summary.refused(error, request)


def _install(request: Request, events: Reporter) -> Summary:
    site = open_site(events)
    context = _checked(site, request, events)
    whole = planner.plan(context)
    if request.run.dry_run or request.run.confirm is not None:
        preview = _preview(site, whole)
        if request.run.dry_run:
            return summary.previewed(preview, request)
        if request.run.confirm is not None and preview.changes and not request.run.confirm(preview):
            return summary.declined(request)
    proofs: tuple[Proof, ...] = ()
    with _watching(events) as interruption:
        runner = _runner(site, request, events, interruption)
        result = _run(runner, whole, context, request)
        if result.failure is None:
            try:
                proofs = _prove(site, context, events, interruption, fresh=result.changed > 0)
                result.failure = unproven(proofs)
            except Interrupted as error:
                runner.take_back(result, error)
    if result.outcome == "rolled_back" and not site.receipt.entries:
        forget_state(site.host, site)  # gone back to the beginning, so there is nothing to remember but the log
    return summary.finished(result, proofs, context, request, proving.verdict(site.host))


def _prove(site: Site, context: Context, events: Reporter, interruption: Interruption, *, fresh: bool) -> tuple[Proof, ...]:
    """The last phase. Raises Interrupted."""
    events.emit(PhaseStarted("verify", "Proof", 0))
    began = site.host.monotonic()
    proofs = proving.prove(context, site.host, events, fresh=fresh, check=interruption.check)
    passed = sum(p.verdict == "passed" for p in proofs)
    events.emit(PhaseFinished("verify", 0, passed, site.host.monotonic() - began))
    return proofs


def unproven(proofs: tuple[Proof, ...]) -> VerifyFailed | None:
    """The failure that failed hops come to, or None."""
    failed = [p for p in proofs if p.verdict == "failed"]
    if not failed:
        return None
    first = failed[0]
    more = f" ({len(failed) - 1} more)" if len(failed) > 1 else ""
    return VerifyFailed(first.code, f"Installed, but {first.hop} could not be proven: {first.detail}{more}.", first.cure)


def _checked(site: Site, request: Request, events: Reporter) -> Context:
    """Gather facts, run preflight, make the context. Raises PreflightRefused with every finding."""
    events.emit(PhaseStarted("preflight", "Is this host fit", 0))
    began = site.host.monotonic()
    facts = facts_for(site.host, request.settings)
    context = make_context(site, request, facts, events)
    receipt = site.receipt
    situation = preflight.Situation(
        installed=site.installed_settings,
        known=bool(receipt.entries) or bool(receipt.unfinished),
        registered=_registered(site),
        db_password=context.secrets.db_password if request.environment.db_password or site.installed_settings else None,
        join_token=context.secrets.join_token,
        role_attributes=context.release.database_role_attributes,
        explicit=request.explicit,
    )
    found = preflight.run(request.settings, facts, site.host, situation, request.run.ignore_preflight)
    for finding in found:
        events.emit(Notice(finding.severity.value, finding.what, finding.code, finding.cure))
    errors = tuple(NqrError(f.code, f.what, f.cure) for f in found if f.severity is Severity.error)
    events.emit(PhaseFinished("preflight", 0, 0, site.host.monotonic() - began))
    if errors:
        first = errors[0]
        more = f" ({len(errors) - 1} more above)" if len(errors) > 1 else ""
        raise PreflightRefused(first.code, first.what + more, first.cure, errors)
    return context


def _registered(site: Site) -> bool:
    try:
        return bool(json.loads(site.host.read_text(paths.AGENT_CREDENTIALS)).get("agent_token"))
    except (PathMissing, ValueError, AttributeError):
        return False


def _preview(site: Site, whole: Plan) -> PlanPreview:
    previewer = Previewer("install")
    Runner(site.host, site.journal, site.originals, previewer).preview(whole)
    return previewer.preview


def _watching(events: Reporter) -> AbstractContextManager[Interruption]:
    def told(name: str) -> None:
        events.emit(Notice("warning", f"{name} received: finishing the step in hand, then going back."))

    return watching(told)


def _run(runner: Runner, whole: Plan, context: Context, request: Request) -> RunResult:
    return runner.run(whole, "install", context.release.version, request.settings.model_dump(mode="json"))


def _runner(site: Site, request: Request, events: Reporter, interruption: Interruption) -> Runner:
    return Runner(
        site.host,
        site.journal,
        site.originals,
        events,
        interruption,
        keep_on_failure=request.run.on_failure == "keep",
        before_first_change=lambda: proof_of_clean.remember(site.host),
    )
