"""NetworkManager: a keyfile, see nm-settings-keyfile(5).

Of several matching profiles, NetworkManager uses the one with the highest priority. It ignores files that others may read.
"""

from __future__ import annotations

import uuid

from nqrust.agent.disks.netconf.configurator import NOTE, Nic, Plan
from nqrust.agent.disks.netconf.image import Image, Wanted, unit_paths

PATH = "/etc/NetworkManager/system-connections/90-nqrust.nmconnection"
_UNIT = "NetworkManager.service"
_RUNLEVEL = "/etc/runlevels/default/networkmanager"  # OpenRC
_SPACE = uuid.UUID("6e717275-7374-4d56-8000-6e6574000001")


class NetworkManager:
    wanted = Wanted(paths=unit_paths(_UNIT) | {_RUNLEVEL})
    writes = (PATH,)

    def plan(self, image: Image, nic: Nic) -> Plan | None:
        if not image.enabled(_UNIT) and not image.has(_RUNLEVEL):
            return None
        return Plan("NetworkManager", {PATH: (0o600, render(nic.mac))})


def render(mac: str) -> str:
    """Render the keyfile. Without `dhcp-client-id` the client ID is the machine ID, which copies of an image may share."""
    return (
        f"{NOTE}[connection]\n"
        "id=nqrust\n"
        f"uuid={uuid.uuid5(_SPACE, mac)}\n"
        "type=ethernet\n"
        "autoconnect=true\n"
        "autoconnect-priority=100\n"
        "\n"
        "[ethernet]\n"
        f"mac-address={mac.upper()}\n"
        "\n"
        "[ipv4]\n"
        "method=auto\n"
        "dhcp-client-id=mac\n"
        "\n"
        "[ipv6]\n"
        "method=auto\n"
    )
