"""status and verify: inspect and prove, change nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

from nqrust.contract.paths import REACH_ENV
from nqrust.host.environment import parse, reach
from nqrust.host.errors import HostError
from nqrust.installer import planner
from nqrust.installer.context import Context, Secrets
from nqrust.installer.engine.errors import NqrError, UsageError
from nqrust.installer.engine.events import NullReporter, Reporter
from nqrust.installer.engine.runner import Runner, RunResult
from nqrust.installer.operations import conflicts, held_ports, images, leftovers, own_certificate, summary
from nqrust.installer.operations.preview import Previewer
from nqrust.installer.operations.site import Site, facts_for, make_context, open_site
from nqrust.installer.phases.services import our_services
from nqrust.installer.platform.vmm_verdict import chosen
from nqrust.installer.request import Request, ServiceStatus, Status, Summary
from nqrust.installer.resources.env import manager_base
from nqrust.installer.verbs.registry import VERBS


def verify(request: Request, events: Reporter) -> Summary:
    """Prove with a new canary VM that the installation works. Exit 4 if a hop fails."""
    from nqrust.installer.operations import proving  # here, because `status` proves nothing

    try:
        site = open_site(events)
        settings = site.installed_settings
        if settings is None:
            raise UsageError(
                "NQR-USE-020",
                "NQRust-MicroVM is not installed on this host.",
                "Run `nqr install` first.",
            )
        installed = Request(settings, request.run, request.environment, request.explicit)
        context = make_context(site, installed, facts_for(site.host, settings), events, looking=True)
        began = site.host.monotonic()
        proofs = proving.prove(context, site.host, events, fresh=True)
        result = RunResult(
            "verify",
            seconds=site.host.monotonic() - began,
            satisfied=sum(p.verdict == "passed" for p in proofs),
            failure=proving.unproven(proofs),
        )
        return summary.finished(result, proofs, context, installed, chosen(site.host))
    except NqrError as error:
        return summary.refused(error, request)


def status(request: Request) -> Status:
    """Return the installation, the state of its services, and drift since the install. Raises NqrError."""
    site = open_site(NullReporter())
    receipt = site.receipt
    unfinished = receipt.unfinished[-1].verb if receipt.unfinished else ""
    settings = site.installed_settings
    if settings is None:
        notes = ("This host still has data of an earlier installation.",) if receipt.entries else ()
        return Status(installed=False, unfinished=unfinished, notes=(*notes, *_cut_off(site)))
    installed = Request(settings, request.run, request.environment, request.explicit)
    facts = facts_for(site.host, settings)
    context = make_context(site, installed, facts, NullReporter(), looking=True)
    services = []
    asked = [service.name for service in our_services(context)]
    names = tuple(dict.fromkeys((*asked, *site.services)))
    supervisor = context.supervisor.looked(site.host, names)
    context = replace(context, looked=supervisor, reach=_remembered(site))
    for name in names:
        state = supervisor.state(site.host, name)
        if name in asked:
            services.append(ServiceStatus(name, state.enabled, state.active, detail=state.text))
        elif state.active or state.enabled:
            detail = f"{state.text}; no longer asked for, `nqr install` removes it"
            services.append(ServiceStatus(name, state.enabled, state.active, detail=detail, asked=False))
    last = next((run for run in reversed(receipt.runs) if run.verb == "install"), None)
    at = datetime.fromtimestamp(last.at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ") if last else ""
    return Status(
        installed=True,
        version=context.release.version,
        mode=settings.mode.value,
        installed_at=at,
        supervisor=supervisor.name,
        vmm=chosen(site.host),
        unfinished=unfinished,
        services=tuple(services),
        urls=summary.urls(context),
        drift=_drift(site, context),
        problems=own_certificate.ended(site.host, settings),
        notes=(
            *_cut_off(site),
            *held_ports.notes(site.host, settings, facts, supervisor, names),
            *rotating(context.secrets),
            *_conflicts(site, context),
            *images.unusable(site.host, context.layout.image_dir, has_agent=settings.has_agent),
        ),
    )


def rotating(secrets: Secrets) -> tuple[str, ...]:
    """Return a note if the rotation of the authority is between two stages. An install leaves it there."""
    if not (secrets.next_authority or secrets.former_authority):
        return ()
    return ("The rotation of the authority is not complete. Run `nqr rotate authority`; it continues.",)


def _conflicts(site: Site, context: Context) -> tuple[str, ...]:
    if not context.settings.has_manager or context.release.form != "bundled":
        return ()
    return conflicts.told(site.host, manager_base(context), context.layout.cli_token_file)


def _cut_off(site: Site) -> tuple[str, ...]:
    return tuple(
        f"{path} belongs to a running or an interrupted rehearsal. After an interruption, `nqr rollback` removes it."
        for path in leftovers.leftovers(site.host)
    )


def _drift(site: Site, context: Context) -> tuple[str, ...]:
    previewer = Previewer("status")
    Runner(VERBS, site.host, site.journal, site.originals, previewer).preview(planner.plan(context), retiring=True)
    return tuple(change.describe for phase in previewer.preview.phases for change in phase.changes)


def _remembered(site: Site) -> dict[str, str]:
    """Return the ways to reach others that the installation remembers. Those of this shell are no drift of the host."""
    if not site.receipt.created(f"file:{REACH_ENV}"):
        return {}
    try:
        return reach(parse(site.host.read_text(REACH_ENV)))
    except HostError:  # gone, or unreadable: the drift names it
        return reach(site.host.environment())
