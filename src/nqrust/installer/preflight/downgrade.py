"""Checks that a release is not older than the one in use, nor than the newest that its publisher signed and this host has seen.

An attacker between this host and the publisher cannot sign, but can serve an older release with known holes.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from nqrust.host.port import Host, Kind
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.preflight.findings import Finding, error, warning
from nqrust.installer.release import newest, versions
from nqrust.installer.settings.model import Settings

INSTALLED, SEEN, DAMAGED = "NQR-REL-033", "NQR-REL-034", "NQR-REL-035"
CODES = (INSTALLED, SEEN, DAMAGED)
_CURE = "Choose a newer release, or add --allow-downgrade to `nqr install`."


def in_use(settings: Settings, host: Host) -> str:
    """Return the version of the release in use on this host, or ""."""
    link = settings.layout.current_link
    stat = host.stat(link)
    return posixpath.basename(host.readlink(link)) if stat is not None and stat.kind is Kind.symlink else ""


def checks(settings: Settings, host: Host, version: str, signed_by: str, *, allowed: bool) -> Iterator[Finding]:
    """Yield the reasons against `version`. `signed_by`: the id of the key that signed it, or "". `allowed`: the user asked for
    an older release, so the reasons are warnings. The release in use is never refused: installing it again is no step back."""
    here = in_use(settings, host)
    if not version or version == here:
        return
    older = versions.is_older(version, here) if here else False
    if older is not False:
        relation = "is older than" if older else "cannot be compared with"
        yield _asked(error(INSTALLED, f"Release {version} {relation} {here}, the release in use on this host.", _CURE), allowed)
    if not signed_by:
        return
    try:
        known = newest.seen(host).get(signed_by, "")
    except ReleaseError as damaged:
        yield error(damaged.code, damaged.what, damaged.cure)
        return
    if known and versions.is_older(version, known) is not False:
        what = f"Release {version} is older than {known}, the newest that this host has seen from its publisher."
        yield _asked(error(SEEN, what, _CURE), allowed)


def _asked(found: Finding, allowed: bool) -> Finding:
    return warning(found.code, found.what) if allowed else found
