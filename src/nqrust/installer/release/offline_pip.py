"""pip without an index: it installs locked packages from folders of wheels, and no setting of this host interferes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nqrust.host.port import Host, command

_OPTIONS = ("--disable-pip-version-check", "--no-input", "--no-compile", "--no-cache-dir", "--no-index", "--require-hashes")
_SETTINGS = {"PIP_ROOT_USER_ACTION": "ignore", "PIP_CONFIG_FILE": "/dev/null"}
"""The command line has everything else that pip needs. `--isolated` keeps it from the other PIP_* of this host."""


def install(
    host: Host,
    runner: str,
    *,
    files: Iterable[str],
    find_links: Iterable[str],
    before: tuple[str, ...] = (),
    options: tuple[str, ...] = (),
    on_line: Callable[[str], None] | None = None,
) -> None:
    """Install what the requirements `files` lock. `runner`: the Python whose pip does it. `find_links`: folders of wheels. `before`,
    `options`: more options of pip, and of its command. Raises HostError."""
    wanted = [part for file in files for part in ("-r", file)]
    links = [part for folder in find_links for part in ("--find-links", folder)]
    pip = (runner, "-I", "-m", "pip", "--isolated", *before, "install")
    host.run(command(*pip, *_OPTIONS, *options, *links, *wanted, timeout=1800, env=_SETTINGS), on_line=on_line)
