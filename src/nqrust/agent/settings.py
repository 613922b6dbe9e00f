"""The agent's settings, from environment variables only (agent.env)."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from nqrust.agent.errors import SettingsError
from nqrust.contract import names, paths

_BIND = re.compile(r"(\[[0-9a-fA-F:.]+\]|[0-9A-Za-z.-]+):(\d{1,5})")
_PATH = re.compile(r"/[A-Za-z0-9._@+-]+(/[A-Za-z0-9._@+-]+)*")
_LINK = re.compile(r"[A-Za-z0-9_.-]{1,15}")
_LONGEST_STATE_DIR = 40  # a console's socket, STATE_DIR/screen/PID.fc-UUID, has room for 107 bytes: unix(7)
_MODES = ("nat", "bridged", "isolated")
_VMMS = ("auto", "firecracker", "qemu")


@dataclass(frozen=True)
class Network:
    """The VM network of this host. In bridged mode the addresses are empty: the LAN has its own DHCP."""

    mode: str = "nat"
    bridge: str = names.BRIDGE
    cidr: str = names.NAT_CIDR
    gateway: str = names.NAT_GATEWAY
    dhcp_first: str = names.NAT_DHCP_FIRST
    dhcp_last: str = names.NAT_DHCP_LAST
    relay_port: int = names.GUEST_RELAY_PORT
    guest_isolation: bool = True
    """Whether guests of the bridge are isolated from each other (bridge port isolation)."""


@dataclass(frozen=True)
class Settings:
    bind: tuple[str, int] = ("0.0.0.0", names.AGENT_PORT)
    advertise: str = ""
    """ADDRESS, ADDRESS:PORT or URL. Empty: the address of the route to the manager."""
    name: str = "localhost"
    manager_base: str = f"http://localhost:{names.MANAGER_PORT}"
    run_dir: str = paths.DATA_DIR
    image_root: str = paths.IMAGE_DIR
    state_dir: str = paths.AGENT_STATE_DIR
    vmm: str = "auto"
    verdict_file: str = paths.VMM_VERDICT
    join_token_file: str = paths.Layout().join_token_file
    dhcp_hosts_dir: str = paths.DHCP_HOSTS_DIR
    dhcp_leases: str = paths.DHCP_LEASES
    bin_dir: str = paths.Layout().bin_dir
    """Where the installer keeps Firecracker and its jailer; what is not there is looked for on the host's PATH."""
    helper: str = f"{paths.Layout().libexec_dir}/nqrust-helper"
    """The root-owned program that writes into disks that need mounting."""
    network: Network = Network()

    @property
    def vms_dir(self) -> str:
        return f"{self.run_dir}/vms"

    def vm_dir(self, vm_id: str) -> str:
        """Return the folder of a VM, whose id is checked."""
        return f"{self.vms_dir}/{vm_id}"

    @property
    def volumes_dir(self) -> str:
        """Volumes that outlive their VMs."""
        return f"{self.run_dir}/volumes"

    @property
    def platform_ports(self) -> frozenset[int]:
        """The platform's own TCP ports on this host, from the settings."""
        manager = urlsplit(self.manager_base)
        local = manager.port if manager.hostname in ("localhost", "127.0.0.1", "::1") else None
        return names.PLATFORM_PORTS | {self.bind[1], self.network.relay_port, *([local] if local else [])}

    @property
    def peers_ports(self) -> frozenset[int]:
        """TCP ports of the manager and of other hosts' agents, if they listen where this host's settings say. Not those of the web:
        any machine has them."""
        return frozenset({self.bind[1], urlsplit(self.manager_base).port or 443}) - {80, 443}

    @property
    def credentials_file(self) -> str:
        return f"{self.state_dir}/credentials.json"

    @property
    def network_script(self) -> str:
        """The root-owned program, beside the helper, that sets up the VM network."""
        return f"{self.helper.rpartition('/')[0]}/nqrust-network"

    @property
    def local_token_file(self) -> str:
        return f"{self.state_dir}/local-token"

    @property
    def screen_dir(self) -> str:
        """Sockets of the consoles. Not below /run: they must outlive the service, however its unit is configured."""
        return f"{self.state_dir}/screen"


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Load settings from `environ` (default: the process's own). Raises SettingsError, which names the variable."""
    env = os.environ if environ is None else environ
    get = _Reader(env)
    state_dir = get.path("AGENT_STATE_DIR", paths.AGENT_STATE_DIR)
    if len(state_dir) > _LONGEST_STATE_DIR:
        raise get.wrong("AGENT_STATE_DIR", f"is longer than {_LONGEST_STATE_DIR} characters")
    return Settings(
        bind=get.bind("AGENT_BIND", f"0.0.0.0:{names.AGENT_PORT}"),
        advertise=get.text("AGENT_ADVERTISE_ADDR", ""),
        name=get.text("AGENT_NAME", os.uname().nodename or "localhost"),
        manager_base=get.url("MANAGER_BASE", f"http://localhost:{names.MANAGER_PORT}"),
        run_dir=get.path("FC_RUN_DIR", paths.DATA_DIR),
        image_root=get.path("AGENT_IMAGE_ROOT", paths.IMAGE_DIR),
        state_dir=state_dir,
        vmm=get.choice("AGENT_VMM", "auto", _VMMS),
        verdict_file=get.path("AGENT_VMM_VERDICT", paths.VMM_VERDICT),
        join_token_file=get.path("AGENT_JOIN_TOKEN_FILE", paths.Layout().join_token_file),
        dhcp_hosts_dir=get.path("AGENT_DHCP_HOSTS_DIR", paths.DHCP_HOSTS_DIR),
        dhcp_leases=get.path("AGENT_DHCP_LEASES", paths.DHCP_LEASES),
        bin_dir=get.path("AGENT_BIN_DIR", Settings.bin_dir),
        helper=get.path("AGENT_HELPER", Settings.helper),
        network=_network(get),
    )


def _network(get: _Reader) -> Network:
    mode = get.choice("AGENT_NETWORK_MODE", "nat", _MODES)
    bridge = get.text("FC_BRIDGE", names.BRIDGE)
    if not _LINK.fullmatch(bridge):
        raise get.wrong("FC_BRIDGE", "is not a network interface name of at most 15 characters")
    port = get.port("AGENT_GUEST_RELAY_PORT", names.GUEST_RELAY_PORT)
    isolation = get.flag("AGENT_GUEST_ISOLATION", mode != "bridged")
    if mode == "bridged":
        return Network(mode, bridge, "", "", "", "", port, isolation)
    cidr = get.text("AGENT_NETWORK_CIDR", names.NAT_CIDR)
    try:
        net = ipaddress.IPv4Network(cidr)
    except ValueError:
        raise get.wrong("AGENT_NETWORK_CIDR", "is not an IPv4 network such as 10.0.0.0/24") from None
    default = cidr == names.NAT_CIDR
    hosts = (net.network_address + 1, net.network_address + 2, net.broadcast_address - 1)
    gateway = get.address("AGENT_NETWORK_GATEWAY", str(hosts[0]), net)
    first = get.address("AGENT_NETWORK_DHCP_FIRST", names.NAT_DHCP_FIRST if default else str(hosts[1]), net)
    last = get.address("AGENT_NETWORK_DHCP_LAST", names.NAT_DHCP_LAST if default else str(hosts[2]), net)
    return Network(mode, bridge, cidr, gateway, first, last, port, isolation)


class _Reader:
    """One environment, with checks that name the invalid variable. An empty variable counts as absent."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = env

    def wrong(self, name: str, why: str) -> SettingsError:
        return SettingsError(
            "NQR-CFG-701", f"{name}={self.env.get(name, '')!s} {why}.", f"Correct {name} in agent.env and restart the agent."
        )

    def text(self, name: str, default: str) -> str:
        return self.env.get(name, "").strip() or default

    def path(self, name: str, default: str) -> str:
        value = self.text(name, default)
        if not _PATH.fullmatch(value) or ".." in value.split("/"):
            raise self.wrong(name, "is not an absolute path without spaces, '..' or a trailing slash")
        return value

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        value = self.text(name, default)
        if value not in allowed:
            raise self.wrong(name, f"is not one of {', '.join(allowed)}")
        return value

    def flag(self, name: str, default: bool) -> bool:
        value = self.text(name, "on" if default else "off").lower()
        if value not in ("on", "off", "true", "false", "1", "0", "yes", "no"):
            raise self.wrong(name, "is neither on nor off")
        return value in ("on", "true", "1", "yes")

    def port(self, name: str, default: int) -> int:
        value = self.text(name, str(default))
        if not value.isdigit() or not 1 <= int(value) <= 65535:
            raise self.wrong(name, "is not a port from 1 to 65535")
        return int(value)

    def bind(self, name: str, default: str) -> tuple[str, int]:
        match = _BIND.fullmatch(self.text(name, default))
        if not match or not 1 <= int(match[2]) <= 65535:
            raise self.wrong(name, "is not ADDRESS:PORT")
        return match[1].strip("[]"), int(match[2])

    def url(self, name: str, default: str) -> str:
        value = self.text(name, default).rstrip("/")
        if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", value):
            raise self.wrong(name, "is not an http:// or https:// address")
        return value

    def address(self, name: str, default: str, net: ipaddress.IPv4Network) -> str:
        value = self.text(name, default)
        try:
            inside = ipaddress.IPv4Address(value) in net
        except ValueError:
            inside = False
        if not inside:
            raise self.wrong(name, f"is not an address of {net}")
        return value
