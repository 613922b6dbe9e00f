"""Checks that the host can build the requested images."""

from __future__ import annotations

from collections.abc import Iterator

from nqrust.host.facts.model import Facts
from nqrust.installer.distro import registry
from nqrust.installer.preflight.findings import Finding, error
from nqrust.installer.settings.model import Settings

CODE = "NQR-PRE-032"
CURE = (
    "Install with --no-container-runtime. Build the image on Debian or Ubuntu, then add it here: "
    "nqr image add container-runtime --path FOLDER."
)


def container_runtime(settings: Settings, facts: Facts) -> Iterator[Finding]:
    """Check that the host has Debian's packages and the Debian tool that builds the image."""
    distro = registry.kin(facts.os)
    if settings.components.container_runtime and distro is not None and "image-builder" not in distro.packages:
        yield error(CODE, why(distro.title), CURE)


def why(title: str) -> str:
    return f"The container runtime image cannot be built on {title}, which has no mmdebstrap and apt."


def checks(settings: Settings, facts: Facts) -> Iterator[Finding]:
    yield from container_runtime(settings, facts)
