"""Where Firecracker comes from: its publisher's release page, a mirror of it, or an archive on this host."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.settings.firecracker import DIGESTS, VERSION

PUBLISHER = "https://github.com/firecracker-microvm/firecracker/releases/download"
ARCHIVE_VARIABLE = "NQR_FIRECRACKER_ARCHIVE"
DIGEST_VARIABLE = "NQR_FIRECRACKER_SHA256"
MIRROR_VARIABLE = "NQR_FIRECRACKER_MIRROR"


@dataclass(frozen=True)
class Source:
    """One archive. `version` and `url` of what is downloaded; `archive` is the path of a file on this host in its place.
    `sha256` is what the archive must have. `bundled`: a step that comes before unpacks the archive from a bundle. `chosen` is the version in the settings, which an archive need not have."""

    version: str
    sha256: str
    url: str = ""
    archive: str = ""
    chosen: str = VERSION
    bundled: bool = False

    @property
    def label(self) -> str:
        return f"Firecracker {self.version}" if self.version else f"Firecracker from {self.archive}"


def source(version: str, archive: str | None, environment: Mapping[str, str] | None = None) -> Source:
    """The archive that the settings and the environment name.

    `archive`: a file of the administrator's. NQR_FIRECRACKER_ARCHIVE stands for it, NQR_FIRECRACKER_SHA256 vouches for it;
    without a digest it must be one of the published archives that nqr knows. NQR_FIRECRACKER_MIRROR replaces the
    publisher's address, never the digest. Raises StepFailed NQR-REL-041.
    """
    env = os.environ if environment is None else environment
    archive = archive or env.get(ARCHIVE_VARIABLE, "")
    digest = env.get(DIGEST_VARIABLE, "").lower()
    if (digest and not archive) or (archive and not archive.startswith("/")):
        raise StepFailed(
            "NQR-REL-041",
            f"{DIGEST_VARIABLE} is set, but no archive is named." if not archive else f"{archive} is not an absolute path.",
            f"Name the archive with --firecracker or {ARCHIVE_VARIABLE}, as an absolute path.",
        )
    if digest and not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise StepFailed(
            "NQR-REL-041",
            f"{DIGEST_VARIABLE} is not a SHA-256.",
            "Set it to the 64 hex digits that the archive's publisher lists.",
        )
    if archive:
        return Source("" if digest else version, digest or DIGESTS[version], archive=archive, chosen=version)
    base = env.get(MIRROR_VARIABLE, PUBLISHER).rstrip("/")
    return Source(version, DIGESTS[version], url=f"{base}/v{version}/firecracker-v{version}-x86_64.tgz", chosen=version)
