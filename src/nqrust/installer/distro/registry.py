"""The supported distributions. A new one is a new small file and a line here."""

from __future__ import annotations

from nqrust.host.facts.model import Os
from nqrust.installer.distro.debian import DEBIAN
from nqrust.installer.distro.model import Distro
from nqrust.installer.distro.rhel import RHEL
from nqrust.installer.distro.ubuntu import UBUNTU

DISTROS: tuple[Distro, ...] = (UBUNTU, DEBIAN, RHEL)


def kin(os: Os) -> Distro | None:
    """Return the distribution that the machine runs or derives from, as its version has it; None if neither is known."""
    for name in (os.id, *os.id_like):  # ID_LIKE lists the closest relative first (os-release(5))
        for distro in DISTROS:
            if name == distro.id or name in distro.aliases:
                return distro.of(os)
    return None


def detect(os: Os) -> Distro | None:
    """Return the supported distribution of a machine; None if it is unknown or too old (`refusal` explains)."""
    found = kin(os)
    return None if found is None or found.is_old(os) else found


def advice() -> str:
    """Return the distributions to use instead of a refused one."""
    best = [f"{distro.title} {distro.min_version}" for distro in DISTROS]
    return f"Use {', '.join(best[:-1])} or {best[-1]}, or a newer version. Derivatives work too."


def refusal(os: Os) -> str:
    """Return why `detect` returned None, as a sentence; empty if it did not."""
    found = kin(os)
    name = os.pretty_name or f"{os.id} {os.version_id}".strip() or "an unknown system"
    if found is None:
        known = ", ".join(f"{d.title} {d.min_version} or later" for d in DISTROS)
        return f"This is {name}; supported are {known}, and distributions derived from them."
    if found.is_old(os):
        return f"This is {name}; {found.title} is supported from {found.min_version} on."
    return ""
