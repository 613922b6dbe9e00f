"""ifcfg files of the network service (RHEL 8 and before, without NetworkManager).

A file without DEVICE applies to the NIC of its HWADDR.
"""

from __future__ import annotations

from nqrust.agent.disks.netconf.configurator import NOTE, Nic, Plan
from nqrust.agent.disks.netconf.image import Image, Wanted, unit_paths

FOLDER = "/etc/sysconfig/network-scripts"
PATH = f"{FOLDER}/ifcfg-nqrust"
_UNIT = "network.service"
_STARTED = tuple(f"/etc/rc.d/rc{level}.d/S10network" for level in (2, 3))


class Ifcfg:
    wanted = Wanted(paths=unit_paths(_UNIT) | frozenset(_STARTED), folders=frozenset({FOLDER}))
    writes = (PATH,)

    def plan(self, image: Image, nic: Nic) -> Plan | None:
        if image.kinds.get(FOLDER) != "directory" or not (image.enabled(_UNIT) or image.has(*_STARTED)):
            return None
        names = image.names.get(FOLDER)
        if names is None:
            return Plan("ifcfg", why=f"its {FOLDER} cannot be read")
        others = [name for name in names if name.startswith("ifcfg-") and name not in ("ifcfg-lo", "ifcfg-nqrust")]
        if others:
            return Plan("ifcfg", why=f"it has {FOLDER}/{others[0]}")
        return Plan("ifcfg", {PATH: (0o644, render(nic.mac))})


def render(mac: str) -> str:
    return f"{NOTE}TYPE=Ethernet\nNAME=nqrust\nHWADDR={mac.upper()}\nBOOTPROTO=dhcp\nONBOOT=yes\nIPV6INIT=yes\n"
