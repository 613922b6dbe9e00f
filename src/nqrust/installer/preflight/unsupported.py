"""Checks for features that this version lacks on every host. No flag turns them into warnings, because the install would fail."""

from __future__ import annotations

from collections.abc import Iterator

from nqrust.installer.preflight.findings import Finding, error
from nqrust.installer.release import transport
from nqrust.installer.release.bundle.contents import is_bundle
from nqrust.installer.settings.model import Settings

BUNDLED = "bundled"
PLAIN, KEY = "NQR-REL-027", "NQR-REL-051"
CODES = (PLAIN, KEY)


def release_source(settings: Settings) -> Iterator[Finding]:
    """Refuse plain HTTP without a key before anything is asked, and a key that checks nothing."""
    release = settings.release
    if is_bundle(release.source):
        return
    if release.source != BUNDLED:
        for address in (release.source, *([release.mirror] if release.mirror else [])):
            plain = transport.objection(address, signed=release.public_key is not None)
            if plain is not None:
                yield error(plain.code, plain.what, plain.cure)
    elif release.public_key:
        yield error(
            KEY,
            f"The key {release.public_key} has no use: a release that is built here has no signature.",
            "Leave --release-key out, or name a signed release with --release.",
        )
