"""netplan(5) over systemd-networkd: its own files stay.

A further YAML file cannot do it: netplan joins the lists of all its files (netplan-generate(8)), so the card would keep its
addresses. netplan generates 10-netplan-NAME.network, and networkd takes nqr's files first.
"""

from __future__ import annotations

from dataclasses import replace

from nqrust.host.facts.nic import Nic
from nqrust.host.facts.reading import text
from nqrust.host.port import Host
from nqrust.installer.uplink import networkd
from nqrust.installer.uplink.model import MARK, Owner, added, renamed
from nqrust.installer.verbs.network.guard.change import NetworkChange

WAIT = "systemd-networkd-wait-online.service.d"


class NetplanNetworkd(networkd.Networkd):
    """netplan with the renderer networkd."""

    name = "netplan (systemd-networkd)"

    def owns(self, host: Host, nic: Nic) -> Owner | None:
        owner = super().owns(host, nic)
        return Owner(self, tuple(host.glob("/etc/netplan/*.yaml")) or owner.sources) if owner else None

    def mine(self, path: str) -> bool:
        return networkd.is_netplan(path)

    def change(self, host: Host, nic: Nic, bridge: str) -> NetworkChange:
        made = super().change(host, nic, bridge)
        waits = text(host, f"/run/systemd/system/{WAIT}/10-netplan.conf")
        moved = renamed(waits, nic.name, bridge)
        if moved == waits:
            return made
        # Newer versions of netplan name the links that the boot waits for. The card itself never has an address again.
        reset = moved.replace("ExecStart=", "ExecStart=\nExecStart=", 1)
        file = added(host, f"/etc/systemd/system/{WAIT}/20-nqrust-{bridge}.conf", f"{MARK}\n{reset}")
        reload = ("systemctl", "daemon-reload")
        # systemd has read the file before the guard removes it at a boot. The boot would wait for a bridge that never comes.
        return replace(
            made, files=(*made.files, file), load=(reload, *made.load), restore=(reload, *made.restore), early=(reload,)
        )
