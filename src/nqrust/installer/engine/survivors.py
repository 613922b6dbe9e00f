"""What an installer that was killed had started goes on without it: whoever does its work again, or takes it back, waits
for it to end."""

from __future__ import annotations

from nqrust.host.errors import HostError
from nqrust.host.port import Host
from nqrust.installer.engine.progress import Progress, silent

LIMIT = 120.0
"""Seconds after which a survivor is no longer waited for."""
_BUILDERS = (b"\0venv\0", b"\0pip\0", b"/pip/", b"__pip-runner__", b"\0compileall\0")


def builders_of(host: Host, directory: str) -> list[int]:
    """Processes that make or fill the Python environment `directory`, by their command lines (proc(5)); not those that
    merely run from it."""
    found = []
    for entry in host.listdir("/proc") if host.exists("/proc") else ():
        if not entry.isdigit():
            continue
        try:
            words = host.read_bytes(f"/proc/{entry}/cmdline")
        except HostError:
            continue  # it ended while we looked
        if directory.encode() in words and any(builder in words for builder in _BUILDERS):
            found.append(int(entry))
    return found


def wait_for_builders(host: Host, directory: str, progress: Progress = silent) -> None:
    """Returns when nobody builds `directory` any more, or after LIMIT."""
    end = host.monotonic() + LIMIT
    while (found := builders_of(host, directory)) and host.monotonic() < end:
        progress(f"waiting for process {found[0]}, which an installer that was cut off left behind", None)
        host.sleep(0.5)
