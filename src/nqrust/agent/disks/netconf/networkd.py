"""systemd-networkd(8): a .network file, see systemd.network(5).

networkd uses the first matching file by name. An image's own file with a name before 10-nqrust takes precedence.
"""

from __future__ import annotations

from nqrust.agent.disks.netconf.configurator import NOTE, Nic, Plan
from nqrust.agent.disks.netconf.image import SYSTEM_UNITS, Image, Wanted, unit_paths

PATH = "/etc/systemd/network/10-nqrust.network"
STARTED_BY = f"{SYSTEM_UNITS}/multi-user.target.d/90-nqrust.conf"
_UNIT = "systemd-networkd.service"
_SOCKET = f"{SYSTEM_UNITS}/sockets.target.wants/systemd-networkd.socket"
_INSTALLED = (f"/usr/lib/systemd/system/{_UNIT}", f"/lib/systemd/system/{_UNIT}")


class Networkd:
    """networkd in an image that starts it."""

    wanted = Wanted(paths=unit_paths(_UNIT) | {_SOCKET})
    writes = (PATH,)

    def plan(self, image: Image, nic: Nic) -> Plan | None:
        started = image.enabled(_UNIT) or (image.systemd and image.has(_SOCKET) and not image.masked(_UNIT))
        return Plan("systemd-networkd", {PATH: (0o644, render(nic.mac))}) if started else None


class IdleNetworkd:
    """networkd in an image that has nothing else. The target of a normal boot then starts it too."""

    wanted = Wanted(paths=unit_paths(_UNIT) | frozenset(_INSTALLED))
    writes = (PATH, STARTED_BY)

    def plan(self, image: Image, nic: Nic) -> Plan | None:
        if not image.systemd or not image.has(*_INSTALLED):
            return None
        if image.masked(_UNIT):
            return Plan("systemd-networkd", why="systemd-networkd is masked in it, and there is no other configurator")
        return Plan(
            "systemd-networkd",
            {
                PATH: (0o644, render(nic.mac)),
                STARTED_BY: (0o644, f"{NOTE}[Unit]\nWants={_UNIT}\n"),
            },
        )


def render(mac: str) -> str:
    """Render the file. IPv6 uses router advertisements, the default.

    Without `ClientIdentifier` the client ID is the machine ID, which copies of an image may share.
    """
    return f"{NOTE}[Match]\nMACAddress={mac}\n\n[Network]\nDHCP=ipv4\n\n[DHCPv4]\nClientIdentifier=mac\n"
