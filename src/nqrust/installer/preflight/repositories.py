"""Checks that the host's package sources have what the distribution itself lacks."""

from __future__ import annotations

from collections.abc import Iterator

from nqrust.host.facts.model import Facts
from nqrust.installer.distro import registry
from nqrust.installer.preflight.findings import Finding, error


def extra_repository(facts: Facts) -> Iterator[Finding]:
    """Check for the additional repository where no package of the distribution enables it (RHEL itself)."""
    distro = registry.kin(facts.os)
    if distro is None or not distro.extra_roles or distro.extra_repository:
        return
    lacks = sorted(set(distro.names(distro.extra_roles)) - facts.packages)
    if lacks and "epel-release" not in facts.packages:
        yield error(
            "NQR-PRE-070",
            f"{distro.title} does not have {' and '.join(lacks)}, and EPEL is not enabled on this host.",
            "Enable EPEL as its documentation says (package epel-release). If another repository here has these packages, accept"
            " it with --ignore-preflight NQR-PRE-070.",
        )


def checks(facts: Facts) -> Iterator[Finding]:
    yield from extra_repository(facts)
