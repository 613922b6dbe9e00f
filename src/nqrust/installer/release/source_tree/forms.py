"""The form of a source tree, told from its files. A new form is one more row of FORMS."""

from __future__ import annotations

from collections.abc import Callable

from nqrust.host.port import Host
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
