"""The known VMMs. A new one is a new folder here and one line in this file."""

from __future__ import annotations

from nqrust.agent.vmm.firecracker.driver import Firecracker
from nqrust.agent.vmm.port import Vmm
from nqrust.agent.vmm.qemu.driver import Qemu
from nqrust.host.port import Host


def drivers(host: Host, bin_dir: str) -> dict[str, Vmm]:
    """A driver for each VMM, by name. `bin_dir`: the installation's own programs."""
    return {"qemu": Qemu(host), "firecracker": Firecracker(host, bin_dir)}
