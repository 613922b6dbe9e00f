"""systemd-networkd(8): a .network file, see systemd.network(5). Of those that fit a NIC the first by name is used: an
image's own that comes before 10-nqrust stands."""

from __future__ import annotations

from nqrust.agent.disks.netconf.configurator import NOTE, Nic, Plan
from nqrust.agent.disks.netconf.image import SYSTEM_UNITS, Image, Wanted, unit_paths

PATH = "/etc/systemd/network/10-nqrust.network"
STARTED_BY = f"{SYSTEM_UNITS}/multi-user.target.d/90-nqrust.conf"
_UNIT = "systemd-networkd.service"
_SOCKET = f"{SYSTEM_UNITS}/sockets.target.wants/systemd-networkd.socket"
_INSTALLED = (f"/usr/lib/systemd/system/{_UNIT}", f"/lib/systemd/system/{_UNIT}")


class Networkd:
    """Where the image starts it."""

    wanted = Wanted(paths=unit_paths(_UNIT) | {_SOCKET})
    writes = (PATH,)

    def plan(self, image: Image, nic: Nic) -> Plan | None:
        started = image.enabled(_UNIT) or (image.systemd and image.has(_SOCKET) and not image.masked(_UNIT))
        return Plan("systemd-networkd", {PATH: (0o644, render(nic.mac))}) if started else None


class IdleNetworkd:
    """Where the image has it and nothing else: the target of a normal boot starts it too."""

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
    """IPv6 comes with router advertisements, as by default. Without `ClientIdentifier` the guest's machine ID would tell it
    apart, which copies of an image may share."""
    return f"{NOTE}[Match]\nMACAddress={mac}\n\n[Network]\nDHCP=ipv4\n\n[DHCPv4]\nClientIdentifier=mac\n"
