"""Facts about the host for the manager: boot id, capacity, addresses. proc(5)."""

from __future__ import annotations

import os
import socket
import uuid
from urllib.parse import urlsplit

import psutil

from nqrust.agent import processes
from nqrust.contract.hosts import HostCapacity
from nqrust.host.errors import HostError
from nqrust.host.port import Host

MIB = 1 << 20

WENT_DOWN = "went-down"
"""A file in the agent's state folder, new for each stop of the platform that ended the VMs (link/farewell.py)."""


def boot_id(host: Host, state_dir: str) -> str:
    """Return an id that changes whenever all VMs of this host ended: at its boot, and at a new start of a container or the platform.

    A container keeps the kernel's own id across its restarts, but its PID 1 is another.
    """
    kernel = host.read_text("/proc/sys/kernel/random/boot_id").strip()
    more = []
    if not host.exists("/run/systemd/system"):
        more.append(f"started {processes.parse_stat(host.read_text('/proc/1/stat'))[2]}")
    if host.exists(f"{state_dir}/{WENT_DOWN}"):
        more.append(host.read_text(f"{state_dir}/{WENT_DOWN}").strip())
    return str(uuid.uuid5(uuid.NAMESPACE_OID, " ".join([kernel, *more]))) if more else kernel


def cpus() -> int:
    """Return the number of CPUs that this process, and so a VM, may use."""
    return len(os.sched_getaffinity(0))


def capacity(host: Host, data_dir: str) -> HostCapacity:
    """Return the usable CPUs, the memory, and the size of the file system that holds the VMs' disks."""
    memory = psutil.virtual_memory()
    try:
        disk = host.disk_usage(data_dir)
        total, available = disk.total // MIB, disk.available // MIB
    except HostError:
        total = available = 0
    return HostCapacity(
        cpus=cpus(),
        memory_mib=memory.total // MIB,
        memory_available_mib=memory.available // MIB,
        disk_mib=total,
        disk_available_mib=available,
    )


def bridge_address(bridge: str) -> str | None:
    """Return the first IPv4 address on the bridge, if the settings have none (bridged mode)."""
    for address in psutil.net_if_addrs().get(bridge, []):
        if address.family == socket.AF_INET:
            return str(address.address)
    return None


def advertised_url(advertise: str, bind: tuple[str, int], manager_base: str) -> str:
    """Return the URL at which the manager reaches this agent: from the settings, or the address on the route to the manager."""
    port = bind[1]
    if advertise.startswith(("http://", "https://")):
        return advertise.rstrip("/")
    if advertise:
        bare = advertise.strip("[]")
        if bare.count(":") > 1:  # an IPv6 address without a port
            return f"http://[{bare}]:{port}"
        return f"http://{advertise}" if ":" in advertise else f"http://{advertise}:{port}"
    parts = urlsplit(manager_base)
    family = socket.AF_UNSPEC if ":" in bind[0] else socket.AF_INET  # the agent does not listen on that address
    manager_port = parts.port or (443 if parts.scheme == "https" else 80)
    address = _address_towards(parts.hostname or "localhost", manager_port, family)
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def _address_towards(name: str, port: int, family: socket.AddressFamily) -> str:
    """Return the source address for packets to `name`, or 127.0.0.1 if unknown. Connecting a UDP socket sends nothing."""
    try:
        for found, kind, protocol, _, address in socket.getaddrinfo(name, port, family, socket.SOCK_DGRAM):
            with socket.socket(found, kind, protocol) as probe:
                try:
                    probe.connect(address)
                except OSError:
                    continue
                return str(probe.getsockname()[0])
    except OSError:
        pass
    return "127.0.0.1"
