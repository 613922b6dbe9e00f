"""All checks in one list."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nqrust.host.facts.model import Facts
from nqrust.host.port import Host
from nqrust.host.secret import Secret
from nqrust.installer.phases.preflight import firewalls, images, machine, network, others, ports, reach
from nqrust.installer.phases.preflight.findings import Finding, Severity
from nqrust.installer.settings import Settings


@dataclass(frozen=True)
class Situation:
    """What preflight must know beside settings and facts. `installed`: settings of our installation that is here, if
    one is; `known`: the journal has entries; `registered`: this agent has credentials already; `explicit`: settings that somebody chose, by
    dotted name."""

    installed: Settings | None = None
    known: bool = False
    registered: bool = False
    db_password: Secret | None = None
    join_token: Secret | None = None
    role_attributes: tuple[str, ...] = ()
    explicit: frozenset[str] = frozenset()


def run(settings: Settings, facts: Facts, host: Host, situation: Situation, ignore: tuple[str, ...] = ()) -> list[Finding]:
    """Every finding, errors first. A code in `ignore` turns its errors into warnings."""
    found = [
        *machine.checks(settings, facts),
        *ports.checks(settings, facts, situation.installed, situation.explicit),
        *network.checks(settings, facts, situation.installed is not None),
        *images.checks(settings, facts),
        *others.checks(settings, host, situation.known),
        *firewalls.drops_by_default(settings, host, situation.known),
        *reach.remote_database(settings, situation.db_password, situation.role_attributes),
        *reach.manager_to_join(settings, host, situation.join_token, situation.registered),
    ]
    found = [replace(f, severity=Severity.warning) if f.severity is Severity.error and f.code in ignore else f for f in found]
    return sorted(found, key=lambda f: list(Severity).index(f.severity))
