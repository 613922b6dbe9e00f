"""The release that is installed here, read from this host. Looking at an installation needs no network."""

from __future__ import annotations

import posixpath

from nqrust.host.port import Host, Kind
from nqrust.installer.release.bundled import read_release
from nqrust.installer.release.descriptor import Release
from nqrust.installer.settings.model import Settings


def installed_release(host: Host, settings: Settings) -> Release | None:
    """Return the descriptor of the release in use; None if this host has none. A release that nqr is not part of keeps its
    descriptor in its own folder, and one that nqr is part of in nqr's."""
    layout = settings.layout
    link = host.stat(layout.current_link)
    if link is None or link.kind is not Kind.symlink:
        return None
    version = posixpath.basename(host.readlink(layout.current_link))
    for directory in (f"{layout.releases_dir}/{version}", f"{layout.installer_dir}/bundle"):
        release = read_release(host, directory)
        if release is not None and release.version == version:
            return release
    return None
