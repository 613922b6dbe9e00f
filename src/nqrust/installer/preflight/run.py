"""Runs all checks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from nqrust.host.facts.model import Facts
from nqrust.host.port import Host
from nqrust.host.secret import Secret
from nqrust.installer.preflight import (
    addresses,
    changes,
    downgrade,
    firewalls,
    folders,
    images,
    local_database,
    machine,
    network,
    others,
    own_card,
    own_folders,
    ports,
    reach,
    ready_bridge,
    releases,
    repositories,
    unsupported,
)
from nqrust.installer.preflight.findings import Finding, Severity
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.network.own_card import OwnBridge


@dataclass(frozen=True)
class Situation:
    """Input for preflight besides settings and facts.

    `installed`: settings of the installation on this host, if any. `known`: there is one, finished or not; after an
    uninstall that kept data there is none. `kept`: paths of what an uninstall kept. `agent_token`: this
    host's agent's credential, if it has joined. `explicit`: settings that the user chose, by dotted name. `own`: processes of
    nqr's services. `vms`: folders of this host's VMs. `former`: settings of earlier runs. `cli_token`: token of this
    installation, which its database has. `database_ca`: file with the remote database's authority, or "". `version` of the
    release, the id of the key that `signed_by` it, and whether the user asked for an older one (`allow_downgrade`).
    `own_bridges`: bridges to the LAN that nqr made here. `form` of the release.
    """

    installed: Settings | None = None
    known: bool = False
    kept: frozenset[str] = frozenset()
    agent_token: Secret | None = None
    cli_token: Secret | None = None
    db_password: Secret | None = None
    database_ca: str = ""
    join_token: Secret | None = None
    role_attributes: tuple[str, ...] = ()
    explicit: frozenset[str] = frozenset()
    own: frozenset[int] = frozenset()
    vms: tuple[str, ...] = ()
    former: tuple[Settings, ...] = ()
    version: str = ""
    signed_by: str = ""
    allow_downgrade: bool = False
    own_bridges: tuple[OwnBridge, ...] = ()
    form: str = "bundled"


@dataclass(frozen=True)
class Checked:
    """The findings of the checks of one subject; none if all is well."""

    title: str
    findings: tuple[Finding, ...] = ()


def by_subject(
    settings: Settings, facts: Facts, host: Host, situation: Situation, ignore: tuple[str, ...] = ()
) -> tuple[Checked, ...]:
    """Return the result of every check, by subject. A code in `ignore` turns errors into warnings, except for unsupported or firm
    ones. Older releases have a flag of their own."""
    lifted = (
        set(ignore) - changes.FIRM - set(unsupported.CODES) - set(releases.CODES) - set(own_card.CODES) - set(downgrade.CODES)
    )
    return tuple(
        Checked(title, tuple(_lifted(finding, lifted) for finding in found))
        for title, found in _subjects(settings, facts, host, situation)
    )


def run(settings: Settings, facts: Facts, host: Host, situation: Situation, ignore: tuple[str, ...] = ()) -> list[Finding]:
    """Return every finding of `by_subject`, errors first."""
    return worst_first(by_subject(settings, facts, host, situation, ignore))


def worst_first(checked: Iterable[Checked]) -> list[Finding]:
    found = [finding for one in checked for finding in one.findings]
    return sorted(found, key=lambda f: list(Severity).index(f.severity))


def _lifted(finding: Finding, lifted: set[str]) -> Finding:
    weaker = finding.severity is Severity.error and finding.code in lifted
    return replace(finding, severity=Severity.warning) if weaker else finding


def _subjects(settings: Settings, facts: Facts, host: Host, situation: Situation) -> Iterator[tuple[str, Iterable[Finding]]]:
    known = situation.known
    yield (
        "Release",
        (
            *unsupported.release_source(settings),
            *releases.checks(settings, facts, host, situation.form, situation.installed),
            *downgrade.checks(settings, host, situation.version, situation.signed_by, allowed=situation.allow_downgrade),
        ),
    )
    yield "Machine and KVM", machine.checks(settings, facts)
    yield "Folders", (*folders.checks(settings, host, known), *own_folders.checks(settings, host, known))
    yield "Addresses", addresses.checks(settings, facts)
    yield "Changed settings", changes.checks(settings, situation.installed, facts, situation.vms)
    yield "Ports", ports.checks(settings, facts, situation.installed, situation.explicit, situation.own)
    yield "Local database", local_database.checks(settings, facts, host, situation.db_password)
    yield (
        "VM network",
        (
            *network.checks(settings, facts, host, situation.installed is not None, situation.former),
            *ready_bridge.checks(settings, facts, host, situation.own_bridges),
            *own_card.checks(settings, facts, host, situation.own_bridges),
        ),
    )
    yield "Images", images.checks(settings, facts)
    yield "Package sources", repositories.checks(facts)
    yield "Other installations", others.checks(settings, host, known, situation.kept)
    yield "Firewall", firewalls.drops_by_default(settings, host, known)
    yield (
        "Remote services",
        (
            *reach.remote_database(
                settings, situation.db_password, situation.role_attributes, _moved(settings, situation), situation.database_ca
            ),
            *_manager(settings, facts, host, situation),
        ),
    )


def _manager(settings: Settings, facts: Facts, host: Host, situation: Situation) -> Iterator[Finding]:
    """Check the manager that an agent joins. Upstream's knows no join tokens."""
    if situation.form == "upstream":
        return reach.manager_answers(settings, host)
    name, joined = settings.agent.name or facts.hostname, _joined(settings, host, situation)
    return reach.manager_to_join(settings, host, name, situation.join_token, joined, situation.vms)


def _moved(settings: Settings, situation: Situation) -> Secret | None:
    """Return the token that the remote database must have if the settings name a new database; None otherwise."""
    was = situation.installed
    if was is None or not was.has_manager or was.database.type is not settings.database.type:
        return None
    files = {"password_file": None, "ca": None}
    same = was.database.model_copy(update=files) == settings.database.model_copy(update=files)
    return None if same else situation.cli_token


def _joined(settings: Settings, host: Host, situation: Situation) -> reach.Joined:
    """Return whether this host's agent has joined the manager in the settings."""
    was = situation.installed
    if not situation.agent_token:
        return reach.Joined.no
    if was is None or was.has_manager or was.agent.manager_base == settings.agent.manager_base:
        return reach.Joined.yes
    known = reach.knows(host, settings.agent.manager_base, situation.agent_token)
    return reach.Joined.yes if known else reach.Joined.elsewhere
