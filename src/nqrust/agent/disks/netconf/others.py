"""Configurators that request an address on every NIC by default: they need no file."""

from __future__ import annotations

from nqrust.agent.disks.netconf.configurator import Nic, Plan
from nqrust.agent.disks.netconf.image import Image, Wanted, unit_paths

_UNITS = ("dhcpcd.service", "connman.service", "wicked.service", "wickedd.service")


class Others:
    wanted = Wanted(paths=unit_paths(*_UNITS))
    writes = ()

    def plan(self, image: Image, nic: Nic) -> Plan | None:
        unit = next((unit for unit in _UNITS if image.enabled(unit)), None)
        return Plan(unit, why=f"it starts {unit}") if unit else None
