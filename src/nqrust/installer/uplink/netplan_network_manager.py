"""netplan(5) over NetworkManager: its own files stay, as with networkd. It generates profiles below /run, and the profiles
below /etc have the higher priority."""

from __future__ import annotations

from nqrust.host.facts.nic import Nic
from nqrust.host.port import Host
from nqrust.installer.uplink import network_manager
from nqrust.installer.uplink.model import Owner


class NetplanNetworkManager(network_manager.NetworkManager):
    """netplan with the renderer NetworkManager."""

    name = "netplan (NetworkManager)"

    def owns(self, host: Host, nic: Nic) -> Owner | None:
        owner = super().owns(host, nic)
        return Owner(self, tuple(host.glob("/etc/netplan/*.yaml")) or owner.sources) if owner else None

    def mine(self, path: str) -> bool:
        return network_manager.is_netplan(path)
