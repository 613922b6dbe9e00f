"""Settings that keep NetworkManager(8) off the links of VMs.

It treats any foreign link as "connected (externally)". When networking goes off, as before a sleep, it removes the link's
addresses and bridge, and does not restore them. See `unmanaged-devices` in NetworkManager.conf(5).
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
"""TAPs of VMs and their rate-limit devices: three letters and 11 digits."""
_NOT_RUNNING, _NO_DEVICE = 8, 10  # exit codes, nmcli(1)
_UNMANAGED = "10"


@dataclass(frozen=True)
class UnmanagedLinks:
    """A drop-in that names `bridge` and the links of VMs. The step reloads a running NetworkManager."""

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
        """Return whether it still manages the bridge; it ignores a future bridge from the start."""
        if host.which("nmcli") is None or not host.exists(f"/sys/class/net/{self.bridge}"):
            return False
        shown = host.run(command("nmcli", "-g", "GENERAL.STATE", "device", "show", self.bridge, ok=(0, _NOT_RUNNING, _NO_DEVICE)))
        return shown.code == 0 and shown.stdout.split()[:1] != [_UNMANAGED]
