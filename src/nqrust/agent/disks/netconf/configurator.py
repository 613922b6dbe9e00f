"""What a network configurator is to us: what to look at in an image, and what to write for a NIC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from nqrust.agent.disks.netconf.image import Image, Wanted

MARK = "NQRust-MicroVM"
NOTE = f"# Written by {MARK} before the VM's first boot; written again when its name, keys or users change.\n"


@dataclass(frozen=True)
class Nic:
    """The VM's only NIC, and the VM it belongs to. `passwords`: some account of the VM was given one."""

    mac: str
    vm_id: str
    hostname: str
    passwords: bool = False


@dataclass(frozen=True)
class Plan:
    """Path -> mode and text of what is written, all of it root's; nothing, and `why`, where the image is left alone."""

    configurator: str
    files: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    why: str = ""

    @property
    def told(self) -> str:
        """For people."""
        return f"DHCP, by {self.configurator}" if self.files else f"left to the image: {self.why}"


class Configurator(Protocol):
    """Everything that it plans to write is named in `writes`. `plan` is pure; None: the image does not use this one."""

    @property
    def wanted(self) -> Wanted: ...

    @property
    def writes(self) -> tuple[str, ...]: ...

    def plan(self, image: Image, nic: Nic) -> Plan | None: ...
