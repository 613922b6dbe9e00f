"""The VMMs we know. A new one is a new folder beside and a line here."""

from __future__ import annotations

from nqrust.agent.vmm.firecracker.driver import Firecracker
from nqrust.agent.vmm.port import Vmm
from nqrust.agent.vmm.qemu.driver import Qemu
from nqrust.host.port import Host


def drivers(host: Host) -> dict[str, Vmm]:
    """A driver for each VMM, by name."""
    return {"qemu": Qemu(host), "firecracker": Firecracker(host)}
