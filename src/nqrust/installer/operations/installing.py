"""install, plan, and a single phase."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace

from nqrust.installer import planner
from nqrust.installer.context import Context
from nqrust.installer.engine.errors import Interrupted
from nqrust.installer.engine.events import Fanout, Notice, NullReporter, PhaseFinished, PhaseStarted, Proof, Reporter
from nqrust.installer.engine.interrupt import Interruption, watching
from nqrust.installer.engine.plan import Plan
from nqrust.installer.engine.runner import Runner, RunResult
from nqrust.installer.operations import looking, proof_of_clean, proving, refusals, summary
from nqrust.installer.operations.belongings import Belongings
from nqrust.installer.operations.gate import Prospect, carry_out
from nqrust.installer.operations.preview import Previewer
from nqrust.installer.operations.remove import forget_state
from nqrust.installer.operations.site import ChangingSite, Site, facts_for
from nqrust.installer.platform.vmm_verdict import chosen
from nqrust.installer.preflight import run as preflight
from nqrust.installer.request import PhasePreview, PlanPreview, Request, Summary
from nqrust.installer.verbs.file.former import forget_older
from nqrust.installer.verbs.registry import VERBS


def install(request: Request, events: Reporter) -> Summary:
    """Bring this host to the requested settings, prove it, and report. Errors are in the summary, never raised."""
    return carry_out(request, "install", events, lambda site: _install(site, request, events))


def plan(request: Request, events: Reporter) -> Summary:
    """Return the changes that `install` would make: its dry run, with an event for each inspected step."""
    dry = replace(request, run=replace(request.run, dry_run=True))
    return carry_out(dry, "plan", events, lambda site: _install(site, dry, events))


def phase_run(request: Request, name: str, events: Reporter) -> Summary:
    """Run a single phase, with the same checks as `install`. `name` is one of the ten phases."""
    return carry_out(request, f"phase run {name}", events, lambda site: _phase(site, request, name, events))


def _install(site: Site, request: Request, events: Reporter) -> Prospect:
    context = _checked(site, request, events)
    request = replace(request, settings=context.settings)
    whole = planner.plan(context)
    return Prospect(
        lambda: _preview(site, whole, _heard(request, events), retiring=True),
        lambda site: _bring(site, whole, context, request, events),
    )


def _phase(site: Site, request: Request, name: str, events: Reporter) -> Prospect:
    context = _checked(site, request, events)
    request = replace(request, settings=context.settings)
    whole = planner.plan(context, only=name)

    def run(site: ChangingSite) -> Summary:
        if name == "preflight":
            return summary.finished(RunResult("preflight"), (), context, request)
        if name == "verify":
            proofs = proving.prove(context, site.host, events, fresh=True)
            return summary.finished(RunResult("verify", failure=proving.unproven(proofs)), proofs, context, request)
        with _watching(events, context.interruption) as interruption:
            result = _run(_runner(site, request, events, interruption), whole, context, request, part=True)
        return summary.finished(result, (), context, request)

    if name in _LOOKS:
        return Prospect(lambda: PlanPreview("phase", (PhasePreview(name, *_LOOKS[name]),)), run)
    return Prospect(lambda: _preview(site, whole, _heard(request, events)), run)


_LOOKS = {
    "preflight": ("Checking this host", (), 0, ("The checks ran and changed nothing.",)),
    "verify": ("Proof", (), 0, ("A run would test each part and boot a test VM.",)),
}
"""Phases without steps, and their text in a dry run."""


def _heard(request: Request, events: Reporter) -> Reporter:
    """Return the reporter for a preview's steps. It is silent before a confirmation, which shows the whole preview."""
    return events if request.run.dry_run else NullReporter()


def _bring(site: ChangingSite, whole: Plan, context: Context, request: Request, events: Reporter) -> Summary:
    proofs: tuple[Proof, ...] = ()
    with _watching(events, context.interruption) as interruption:
        runner = _runner(site, request, events, interruption)
        result = _run(runner, whole, context, request, retiring=True)
        if result.failure is None:
            try:
                proofs = _prove(site, context, events, interruption, fresh=result.changed > 0)
                result.failure = proving.unproven(proofs)
                if result.failure is None:
                    forget_older(site.host, (undo for entry in site.receipt.entries for undo in entry.undo))
            except Interrupted as error:
                if result.retired.gone:  # retired parts cannot come back, and their replacement works: see engine/retire.py
                    result.failure, result.outcome = error, "failed"
                else:
                    runner.take_back(result, error)
    if result.outcome == "rolled_back" and not site.receipt.entries:
        forget_state(site)  # everything is rolled back, so only the log is worth keeping
    return summary.finished(result, proofs, context, request, chosen(site.host))


def _prove(
    site: ChangingSite, context: Context, events: Reporter, interruption: Interruption, *, fresh: bool
) -> tuple[Proof, ...]:
    """Run the last phase. Raises Interrupted."""
    events.emit(PhaseStarted("verify", "Proof", 0))
    began = site.host.monotonic()
    proofs = proving.prove(context, site.host, events, fresh=fresh, check=interruption.check)
    passed = sum(p.verdict == "passed" for p in proofs)
    events.emit(PhaseFinished("verify", 0, passed, site.host.monotonic() - began))
    return proofs


def _checked(site: Site, request: Request, events: Reporter) -> Context:
    """Gather facts, run preflight, make the context. Raises PreflightRefused with every finding."""
    events.emit(PhaseStarted("preflight", "Checking this host", 0))
    began = site.host.monotonic()
    seen = looking.look(site, request, facts_for(site.host, request.settings), events)
    found = [*seen.chosen, *preflight.worst_first(seen.checked)]
    seconds = site.host.monotonic() - began
    refusals.refuse(found, events, lambda: events.emit(PhaseFinished("preflight", 0, 0, seconds)))
    return seen.context


def _preview(site: Site, whole: Plan, events: Reporter, *, retiring: bool = False) -> PlanPreview:
    previewer = Previewer("install")
    seen = Runner(VERBS, site.host, site.journal, site.originals, Fanout((events, previewer))).preview(whole, retiring=retiring)
    refusals.of_preview(seen)
    return previewer.preview


def _watching(events: Reporter, state: Interruption) -> AbstractContextManager[Interruption]:
    def told(name: str) -> None:
        events.emit(Notice("warning", f"{name} received: finishing the current step, then rolling back."))

    return watching(told, state)


def _run(
    runner: Runner, plan: Plan, context: Context, request: Request, *, retiring: bool = False, part: bool = False
) -> RunResult:
    settings = request.settings.model_dump(mode="json")
    return runner.run(plan, "install", context.release.version, settings, retiring=retiring, part=part)


def _runner(site: ChangingSite, request: Request, events: Reporter, interruption: Interruption) -> Runner:
    return Runner(
        VERBS,
        site.host,
        site.journal,
        site.originals,
        events,
        interruption,
        keep_on_failure=request.run.on_failure == "keep",
        spared=Belongings(site).spared,
        before_first_change=lambda: proof_of_clean.remember(site.host),
    )
