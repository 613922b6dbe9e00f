"""The table of the bridge family that the agent fills with the ports of VMs on a LAN's bridge. nft(8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nqrust.contract.names import LAN_TABLE
from nqrust.host.errors import HostError
from nqrust.host.port import Host, command
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import Inspection, Needed, Origin, Prepared, Satisfied, verify_by_inspection
from nqrust.installer.verbs.firewall.undo import undo_bridge_table


@dataclass(frozen=True)
class BridgeTable:
    """The table exists. Its content is the agent's. `optional`: a kernel without such tables does not need it."""

    kind: ClassVar[str] = "bridge-table"

    name: str = LAN_TABLE[1]
    optional: bool = False

    @property
    def id(self) -> str:
        return f"bridge-table:{self.name}"

    def describe(self) -> str:
        return f"add the nftables table bridge {self.name}, which filters the ports of VMs"

    def inspect(self, host: Host) -> Inspection:
        if host.which("nft") is not None:
            if host.run(command("nft", "list", "table", "bridge", self.name, ok=(0, 1))).code == 0:
                return Satisfied()
            if self.optional and host.run(command("nft", "--check", "add", "table", "bridge", self.name, ok=(0, 1))).code != 0:
                return Satisfied("this kernel has no nftables for bridges")
        return Needed((f"+ nftables table bridge {self.name}",))

    def prepare(self, host: Host) -> Prepared:
        return Prepared(Origin.created, (undo_bridge_table(self.name),))

    def apply(self, host: Host) -> None:
        try:
            host.run(command("nft", "add", "table", "bridge", self.name))
        except HostError as error:
            raise StepFailed(
                "NQR-NET-139",
                f"The ports of VMs on the bridge cannot be filtered here: {str(error).rstrip('.')}.",
                "Check that the kernel has nftables for bridges (`nft list tables bridge`; module nf_tables_bridge), or use"
                " --network-mode nat.",
            ) from error

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)
