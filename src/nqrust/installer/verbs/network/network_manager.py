"""NetworkManager(8) leaves the links of VMs alone.

It takes any link that somebody else made for "connected (externally)", and takes its addresses and its bridge away when
networking goes off, as before a sleep, and does not bring them back. See `unmanaged-devices` in NetworkManager.conf(5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nqrust.contract import names as product
from nqrust.host.port import Host, command
from nqrust.installer.engine.step import Inspection, Needed, Prepared, Satisfied, verify_by_inspection
from nqrust.installer.verbs.file.file import File

FOLDER = "/etc/NetworkManager/conf.d"
PATH = f"{FOLDER}/90-{product.PRODUCT}.conf"
LINKS = ("tap???????????", "ifb???????????")
"""TAPs of VMs and the devices that limit their rates: three letters and 11 digits."""
_NOT_RUNNING, _NO_DEVICE = 8, 10  # exit codes, nmcli(1)
_UNMANAGED = "10"


@dataclass(frozen=True)
class UnmanagedLinks:
    """A drop-in that names `bridge` and the links of VMs, and a reload of NetworkManager where it runs."""

    kind: ClassVar[str] = "network-manager"

    bridge: str

    @property
    def id(self) -> str:
        return "network-manager"

    def describe(self) -> str:
        return f"keep NetworkManager off {self.bridge} and the links of VMs"

    @property
    def _file(self) -> File:
        names = ";".join(f"interface-name:{name}" for name in (self.bridge, *LINKS))
        return File(PATH, f"# Written by nqr: these links are the VMs'.\n[keyfile]\nunmanaged-devices+={names}\n")

    def inspect(self, host: Host) -> Inspection:
        found = self._file.inspect(host)
        if isinstance(found, Satisfied) and self._manages(host):
            return Needed((f"~ NetworkManager manages {self.bridge}",))
        return found

    def prepare(self, host: Host) -> Prepared:
        return self._file.prepare(host)

    def apply(self, host: Host) -> None:
        self._file.apply(host)
        if host.which("nmcli") is not None:
            host.run(command("nmcli", "general", "reload", "conf", ok=(0, _NOT_RUNNING)))

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)

    def _manages(self, host: Host) -> bool:
        """Whether it still does; a bridge that is not there yet will be left alone from the start."""
        if host.which("nmcli") is None or not host.exists(f"/sys/class/net/{self.bridge}"):
            return False
        shown = host.run(command("nmcli", "-g", "GENERAL.STATE", "device", "show", self.bridge, ok=(0, _NOT_RUNNING, _NO_DEVICE)))
        return shown.code == 0 and shown.stdout.split()[:1] != [_UNMANAGED]
