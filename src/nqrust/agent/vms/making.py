"""A new disk that is made while its VM's VMM starts.

The programs that read the image run as a user of their own meanwhile, not as the VM's: a hostile image reaches neither the
launcher nor the VMM. The VMM opens the disk last, when it belongs to the VM's user and nothing of those programs is left.
"""

from __future__ import annotations

from dataclasses import dataclass

from nqrust.agent import survivors
from nqrust.agent.disks import disks
from nqrust.agent.vms import ends
from nqrust.host.port import Host


@dataclass
class Making:
    host: Host
    staged: disks.Staged
    identity: disks.Identity
    network_written: str = ""
    placed: bool = False

    @property
    def path(self) -> str:
        """The disk until it is complete. Its inode stays."""
        return self.staged.part

    def write(self) -> None:
        """Check, grow and write the disk. Raises AgentError, HostError."""
        self.network_written = self.staged.write(self.identity)

    def place(self, vm_id: str) -> None:
        """Give the written disk to the VM. Raises Failed, HostError."""
        if not survivors.end(self.host, self.staged.maker):
            raise ends.unending(vm_id)
        self.staged.place()
        self.placed = True

    def end(self) -> None:
        """End the programs that write it."""
        survivors.end(self.host, self.staged.maker)

    def drop(self) -> None:
        """Remove a disk that was not given to the VM."""
        if not self.placed:
            self.staged.drop()
