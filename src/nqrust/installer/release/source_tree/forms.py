"""The form of a source tree, told from its files. A new form is one more row of FORMS."""

from __future__ import annotations

from collections.abc import Callable

from nqrust.host.port import Host
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.release.source_tree import cargo_workspace

OWN = "nqrust"
UPSTREAM = "cargo-workspace"

FORMS: tuple[tuple[str, Callable[[Host, str], bool]], ...] = (
    (OWN, lambda host, tree: host.exists(f"{tree}/pyproject.toml") and host.exists(f"{tree}/src/nqrust")),
    (UPSTREAM, cargo_workspace.fits),
)
"""Form -> whether a folder has it. The first that fits counts."""


def form_of(host: Host, tree: str) -> str | None:
    """Return the form of the source tree in the folder `tree`, or None for no known one. Reads only. Raises HostError."""
    return next((name for name, fits in FORMS if fits(host, tree)), None)


def require_own(host: Host, tree: str) -> None:
    """Raise ReleaseError NQR-REL-098 for a tree in upstream's form, which becomes a release folder first."""
    if form_of(host, tree) == UPSTREAM:
        raise ReleaseError(
            "NQR-REL-098",
            f"{tree} is a source tree in upstream's form. nqr does not install from it directly.",
            f"Build a release folder from it: nqr release build --source {tree} --to DIR",
        )
