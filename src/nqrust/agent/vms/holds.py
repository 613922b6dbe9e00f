"""Holds: somebody paused a VM that its VMM had paused for lack of room. QEMU reports the same state before and after that."""

from __future__ import annotations

from nqrust.agent.vmm.port import RunState, Vmm
from nqrust.host.port import Host


def _mark(directory: str) -> str:
    return f"{directory}/held"


def hold(host: Host, directory: str) -> None:
    """Record that somebody paused the VM while it was without room. An empty file fits on a full disk."""
    host.write_file(_mark(directory), b"", mode=0o600)


def release(host: Host, directory: str) -> None:
    host.remove(_mark(directory))


def held(host: Host, directory: str) -> bool:
    return host.exists(_mark(directory))


def resume(host: Host, driver: Vmm, directory: str) -> None:
    """Resume the VM on somebody's request, whatever paused it."""
    if driver.state(directory) in (RunState.paused, RunState.no_room):
        release(host, directory)
        driver.resume(directory)
