"""netplan(5): one more YAML file.

Its backend uses the first configuration that matches a NIC, sorted by name (10-netplan-NAME.network). The name of nqr's file
therefore begins with zeros.
"""

from __future__ import annotations

from nqrust.agent.disks.netconf.configurator import NOTE, Nic, Plan
from nqrust.agent.disks.netconf.image import Image, Wanted

PATH = "/etc/netplan/90-nqrust.yaml"
_PROGRAMS = ("/usr/sbin/netplan", "/usr/libexec/netplan/generate", "/usr/lib/netplan/generate", "/lib/netplan/generate")


class Netplan:
    wanted = Wanted(paths=frozenset(_PROGRAMS))
    writes = (PATH,)

    def plan(self, image: Image, nic: Nic) -> Plan | None:
        return Plan("netplan", {PATH: (0o600, render(nic.mac))}) if image.has(*_PROGRAMS) else None


def render(mac: str) -> str:
    return (
        f"{NOTE}network:\n"
        "  version: 2\n"
        "  ethernets:\n"
        "    00-nqrust:\n"
        "      match:\n"
        f'        macaddress: "{mac}"\n'
        "      dhcp4: true\n"
        "      dhcp-identifier: mac\n"
    )
