"""Marks of why a VM is paused. A VMM does not tell who paused it.

held      somebody paused a VM that its VMM had paused for lack of room: QEMU reports the same state before and after that
frozen    a snapshot paused it: an agent that is killed meanwhile resumes it at its next start
"""

from __future__ import annotations

from nqrust.agent.vmm.port import RunState, Vmm
from nqrust.host.port import Host


def _mark(directory: str) -> str:
    return f"{directory}/held"


def _frozen(directory: str) -> str:
    return f"{directory}/frozen"


def hold(host: Host, directory: str) -> None:
    """Record that somebody paused the VM while it was without room. An empty file fits on a full disk."""
    host.write_file(_mark(directory), b"", mode=0o600)


def release(host: Host, directory: str) -> None:
    host.remove(_mark(directory))
    melt(host, directory)


def freeze(host: Host, driver: Vmm, directory: str) -> None:
    """Pause the VM for a snapshot."""
    host.write_file(_frozen(directory), b"", mode=0o600)
    if driver.state(directory) is not RunState.paused:
        driver.pause(directory)


def frozen(host: Host, directory: str) -> bool:
    """Return whether a snapshot paused the VM, or was about to."""
    return host.exists(_frozen(directory))


def thaw(host: Host, driver: Vmm, directory: str) -> None:
    """Resume the VM after a snapshot."""
    driver.resume(directory)
    melt(host, directory)


def melt(host: Host, directory: str) -> None:
    """Forget that a snapshot paused the VM."""
    if frozen(host, directory):
        host.remove(_frozen(directory))


def held(host: Host, directory: str) -> bool:
    return host.exists(_mark(directory))


def resume(host: Host, driver: Vmm, directory: str) -> None:
    """Resume the VM on somebody's request, whatever paused it."""
    if driver.state(directory) in (RunState.paused, RunState.no_room):
        release(host, directory)
        driver.resume(directory)
