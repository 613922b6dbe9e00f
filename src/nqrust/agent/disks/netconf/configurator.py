"""A network configurator: the paths to look at in an image, and the files to write for a NIC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from nqrust.agent.disks.netconf.image import Image, Wanted

MARK = "NQRust-MicroVM"
NOTE = f"# Written by {MARK} before the VM's first boot; written again when its name changes.\n"


@dataclass(frozen=True)
class Nic:
    """The VM's only NIC, and its VM. `passwords`: some account of the VM has a password. `user_data`: for cloud-init, or empty."""

    mac: str
    vm_id: str
    hostname: str
    passwords: bool = False
    user_data: str = field(default="", repr=False)


@dataclass(frozen=True)
class Plan:
    """Path -> mode and text of each file to write, owned by root. Empty, with `why`, if the image is not changed."""

    configurator: str
    files: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    why: str = ""

    @property
    def told(self) -> str:
        """A description for people."""
        return f"DHCP, by {self.configurator}" if self.files else f"left to the image: {self.why}"


class Configurator(Protocol):
    """`writes` names every file that it may plan. `plan` is pure; it returns None if the image does not use this configurator."""

    @property
    def wanted(self) -> Wanted: ...

    @property
    def writes(self) -> tuple[str, ...]: ...

    def plan(self, image: Image, nic: Nic) -> Plan | None: ...
