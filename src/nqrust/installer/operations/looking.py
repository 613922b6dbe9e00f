"""The look at a host before the first change: its facts, and the result of every check."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from nqrust.contract import paths
from nqrust.host.errors import PathMissing
from nqrust.host.facts.model import Facts
from nqrust.host.secret import Secret
from nqrust.installer.context import Context
from nqrust.installer.engine.errors import NqrError, PreflightRefused
from nqrust.installer.engine.events import NullReporter, Reporter
from nqrust.installer.operations import refusals
from nqrust.installer.operations.site import Site, facts_for, make_context, open_site
from nqrust.installer.preflight import changes, subnets
from nqrust.installer.preflight import run as preflight
from nqrust.installer.preflight.findings import Finding, error, info
from nqrust.installer.request import Request
from nqrust.installer.supervisor.holding import own_processes


@dataclass(frozen=True)
class Look:
    """`context`: with the settings that hold here. `chosen`: what nqr chose because of the host. `checked`: every check."""

    context: Context
    chosen: tuple[Finding, ...]
    checked: tuple[preflight.Checked, ...]


@dataclass(frozen=True)
class HostLook:
    """The facts and checks for a person's decisions. `installed`: the host has an installation. `unfinished`: the interrupted run, or "". `bridges`:
    of nqr on this host, which no VM network can overlap."""

    facts: Facts
    checked: tuple[preflight.Checked, ...]
    installed: bool = False
    unfinished: str = ""
    bridges: frozenset[str] = frozenset()


def examine(request: Request) -> HostLook:
    """Return the facts of this host and the result of every check for the request. Only reads. Raises NqrError if there is no
    way to look, such as a damaged journal."""
    site = open_site(NullReporter())
    facts = facts_for(site.host, request.settings)
    try:
        seen = look(site, request, facts, NullReporter())
        checked = (*seen.checked, preflight.Checked("Chosen for this host", seen.chosen))
    except PreflightRefused as refused:
        checked = (preflight.Checked("Request", tuple(_finding(one) for one in refused.findings or (refused,))),)
    receipt = site.receipt
    unfinished = receipt.unfinished[-1].verb if receipt.unfinished else ""
    bridges = frozenset(s.network.bridge_name for s in site.former_settings if s.has_agent)
    return HostLook(facts, checked, site.installed_settings is not None, unfinished, bridges)


def _finding(refused: NqrError) -> Finding:
    return error(refused.code, refused.what, refused.cure)


def look(site: Site, request: Request, facts: Facts, events: Reporter) -> Look:
    """Run every check and make the context. Raises PreflightRefused where no further look is possible."""
    refusals.of_request(request)
    request, chosen = _with_free_network(site, request, facts)
    # Folders first: one of them holds the installed release, and nqr cannot open that release without it.
    refusals.refuse(list(changes.folders(request.settings, site.installed_settings)), events)
    with refusals.told_early():
        context = make_context(site, request, facts, events)
    return Look(context, chosen, _checked(site, request, facts, context))


def _checked(site: Site, request: Request, facts: Facts, context: Context) -> tuple[preflight.Checked, ...]:
    receipt = site.receipt
    situation = preflight.Situation(
        installed=site.installed_settings,
        known=receipt.installed,
        kept=frozenset(undo.path for entry in receipt.entries if entry.retained for undo in entry.undo if undo.path),
        agent_token=_agent_token(site),
        cli_token=context.secrets.cli_token,
        db_password=context.secrets.db_password if request.environment.db_password or site.installed_settings else None,
        database_ca=context.database_ca[1] if context.database_ca else "",
        join_token=context.secrets.join_token,
        role_attributes=context.release.database_role_attributes,
        explicit=request.explicit,
        own=own_processes(site.host, context.supervisor, site.services),
        vms=site.vms,
        former=context.former,
        own_bridges=context.own_bridges,
        version=context.release.version,
        signed_by=context.files.signed_by,
        allow_downgrade=request.run.allow_downgrade,
        form=context.release.form,
    )
    return preflight.by_subject(request.settings, facts, site.host, situation, request.run.ignore_preflight)


def _with_free_network(site: Site, request: Request, facts: Facts) -> tuple[Request, tuple[Finding, ...]]:
    """Return the request with another VM network, and a word on it, if the default is in use here and nobody chose one."""
    former = frozenset(s.network.bridge_name for s in site.former_settings if s.has_agent)
    settings, hides = subnets.settled(request.settings, facts, request.explicit, site.installed_settings, former)
    if not hides:
        return request, ()
    what = f"VMs get the network {settings.network.cidr}, because {request.settings.network.cidr} overlaps {hides}."
    return replace(request, settings=settings), (info("NQR-PRE-039", what),)


def _agent_token(site: Site) -> Secret | None:
    try:
        token = json.loads(site.host.read_text(paths.AGENT_CREDENTIALS)).get("agent_token")
    except (PathMissing, ValueError, AttributeError):
        return None
    return Secret(str(token)) if token else None
