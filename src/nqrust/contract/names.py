"""Names and numbers that both sides of every interface use: ports, units, users, network defaults."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

PRODUCT = "nqrust-microvm"
"""The mark on what is ours among things of others: blocks, links, roles, files."""

MANAGER_PORT = 18080
AGENT_PORT = 19090
GUEST_RELAY_PORT = 19091
"""Guest-facing listener of the agent, bound to the bridge address only."""
UI_PORT = 3000
POSTGRES_PORT = 5432
SSH_PORT = 22
PLATFORM_PORTS = frozenset({MANAGER_PORT, AGENT_PORT, GUEST_RELAY_PORT, UI_PORT, POSTGRES_PORT, SSH_PORT})
"""TCP ports of a host that cannot be forwarded, whether or not a program listens there at the moment."""

UI_KEY_HEADER = "X-Nqrust-Ui-Key"
CLIENT_HEADER = "X-Nqrust-Client"
"""HTTP headers with which the web UI proves itself to the manager, and names its user's address."""

MANAGER_UNIT = "nqrust-manager.service"
AGENT_UNIT = "nqrust-agent.service"
UI_UNIT = "nqrust-ui.service"
NETWORK_UNIT = "nqrust-network.service"
DHCP_UNIT = "nqrust-dhcp.service"
UNITS = {
    "manager": MANAGER_UNIT,
    "agent": AGENT_UNIT,
    "ui": UI_UNIT,
    "dhcp": DHCP_UNIT,
    "network": NETWORK_UNIT,
}
"""Each service by the name that `nqr logs` takes."""

SERVICE_USER = "nqrust"
SERVICE_GROUP = "nqrust"
UI_USER = "nqrust-ui"
"""The web UI's own user and group, which can read nothing of the manager."""
UI_GROUP = "nqrust-ui"
KVM_GROUP = "kvm"

LINK_LOCAL = "169.254.0.0/16"
"""Where clouds keep the metadata, and often the credentials, of the machine that the host is; RFC 3927."""
CLOUD_SERVICES = ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::23", "fd00:ec2::254", "fd20:ce::254")
"""Where clouds keep the metadata, and often the credentials, of a machine, besides link-local addresses: those of Alibaba, Azure
(which has a name server there too), Oracle, Amazon (two) and Google."""

BRIDGE = "fcbr0"
NAT_CIDR = "10.0.0.0/24"
NAT_GATEWAY = "10.0.0.1"
NAT_DHCP_FIRST = "10.0.0.10"
NAT_DHCP_LAST = "10.0.0.250"

FORWARD_NAT_CHAIN, FORWARD_LOCAL_CHAIN, FORWARD_CHAIN = "NQR-PREROUTING", "NQR-OUTPUT", "NQR-FWD"
FORWARD_CHAINS = (
    ("nat", FORWARD_NAT_CHAIN, "PREROUTING"),
    ("nat", FORWARD_LOCAL_CHAIN, "OUTPUT"),
    ("filter", FORWARD_CHAIN, "FORWARD"),
)
"""Table, chain and the built-in chain that jumps there: the agent's, for port forwards; uninstall removes them."""
ROUTED_CHAIN = "NQR-ROUTED"
"""The installer's, at the end of FORWARD: what neither comes from VMs nor goes to them."""
SOURCE_CHAIN = ("raw", "NQR-SOURCE", "PREROUTING")
"""The same, for the addresses that each VM may send from."""
RELAY_CHAIN = ("filter", "NQR-RELAY", "OUTPUT")
"""The same, for the answers from the relay's port."""
RELAY_MARK = "0x4e515257"
"""Mark of what the relay's socket sends. Only a privileged program can set one; socket(7), SO_MARK."""
LAN_TABLE = ("bridge", PRODUCT)
"""Family and name of the nftables table that filters the ports of VMs on a LAN's bridge. The agent fills it."""
LAN_MARK = "0x4e515256"
"""Mark of packets that a VM on a LAN's bridge sends to this host. Only that table sets it."""

SCOPE_PREFIX = "fc-"
SCOPE_ENV = "NQRUST_SCOPE"
"""Environment variable of every process of a VM, which identifies it without systemd."""

TAP_ALIAS = "nqrust-vm:"
"""The alias of a VM's TAP begins with it (ip-link(8), alias)."""
VM_SLICES = ("nqrust-vms.slice", "nqrust.slice")
"""Slices that hold the scopes of VMs under systemd, the inner one first."""

VM_USERS = range(1_900_000_000, 1_900_065_536)
"""Numbers of the users and groups of VMs' processes, one a VM. No distribution gives them to people, services or
containers."""

IMAGE_USERS = range(1_900_065_536, 1_900_069_632)
"""Numbers of the users of programs that read an image while it is imported."""

CANARY_PREFIX = "nqr-canary-"
CANARY_TAG = "nqr-canary"
_CANARY = re.compile(rf"{CANARY_PREFIX}(\d+)-(\d+)")


def canary_owner(name: str, tags: Iterable[str]) -> tuple[int, int] | None:
    """Return the process, with its start time, that owns a canary of `nqr verify`. None if the VM is not a canary.

    The canary is deleted after its proof, so the name alone is not enough: a user may choose it. A canary has its tag too.
    """
    found = _CANARY.fullmatch(name)
    return (int(found[1]), int(found[2])) if found and CANARY_TAG in tags else None


def scope_name(vm_id: str) -> str:
    """Return `fc-<vm-id>`: the name of a VM's scope (systemd adds `.scope`) and of its screen session."""
    return f"{SCOPE_PREFIX}{vm_id}"


def tap_name(vm_id: str) -> str:
    """Return the VM's TAP name: `tap` and 11 hex digits, 14 bytes (IFNAMSIZ allows 15; see netdevice(7)).

    It is a hash of the id, so host and manager agree on it. The database ensures that it is unique.
    """
    return "tap" + hashlib.sha256(vm_id.encode()).hexdigest()[:11]


def kept_volume_name(vm_name: str, device: str, vm_id: str) -> str:
    """Return the name of a volume that first outlives its VM: derived from the VM, and unique."""
    return f"{vm_name}-{device}-{vm_id}"


MAC_PREFIX = "06:4e:"
"""The first bytes of every VM's MAC."""
_BRIDGE_MAC_PREFIX, _TAP_MAC_PREFIX = "06:4f:", "fe:4e:"


def mac_address(vm_id: str) -> str:
    """Return a locally administered unicast MAC (RFC 7042 section 2.1) derived from the VM's id; lower case."""
    digest = hashlib.sha256(b"mac:" + vm_id.encode()).digest()
    return MAC_PREFIX + digest[:4].hex(":")


def bridge_mac(bridge: str) -> str:
    """Return the MAC of nqr's bridge of that name. No guest has it. A bridge without one takes the lowest MAC of its ports."""
    return _BRIDGE_MAC_PREFIX + hashlib.sha256(b"bridge:" + bridge.encode()).digest()[:4].hex(":")


def ifb_name(tap: str) -> str:
    """Return the name of the device that frames from a VM's TAP pass first: as long, and as unique."""
    return f"ifb{tap.removeprefix('tap')}"


def tap_mac(vm_id: str) -> str:
    """Return the MAC of the host's side of a VM's TAP. It is high, so that no bridge takes it (libvirt does the same)."""
    return _TAP_MAC_PREFIX + mac_address(vm_id).removeprefix(MAC_PREFIX)
