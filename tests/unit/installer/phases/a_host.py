"""Facts of a host that meets all needs; each test changes one of them."""

from __future__ import annotations

from typing import Any

from nqrust.host.facts.model import Cpu, Facts, FileSystem, Kernel, Kvm, Link, Memory, Network, Os, Route


def fit(**changes: Any) -> Facts:
    """Debian 12 on bare metal with KVM, one network card, 8 GiB and 100 GB."""
    whole: dict[str, Any] = {
        "os": Os("debian", "12", pretty_name="Debian GNU/Linux 12 (bookworm)"),
        "kernel": Kernel("6.1.0-28-amd64", (6, 1), "x86_64", modules_loadable=True),
        "cpu": Cpu(8, frozenset({"vmx"})),
        "kvm": Kvm(present=True, usable=True, mode=0o660, group="kvm", nested=True),
        "memory": Memory(8192, 7000),
        "hostname": "kvm1",
        "euid": 0,
        "supervisor": "systemd",
        "container": "",
        "file_systems": tuple(disk(path) for path in ("/opt/nqrust-microvm", "/srv/fc", "/srv/images", "/var/lib")),
        "network": Network(
            links=(Link("eth0", "", True, "52:54:00:00:00:01", addresses=("192.0.2.10/24",)),),
            routes=(Route("default", "eth0", "192.0.2.1"), Route("192.0.2.0/24", "eth0")),
            nameservers=("192.0.2.53",),
        ),
        "clock_utc": 1_800_000_000.0,
        "clock_synchronised": True,
    }
    return Facts(**{**whole, **changes})


def disk(path: str, *, total: int = 100_000, free: int = 80_000, inodes: int = 5_000_000, read_only: bool = False) -> FileSystem:
    return FileSystem(path, "/", "ext4", total, free, inodes, read_only)


def network(*links: Link, routes: tuple[Route, ...] = (), firewalls: tuple[str, ...] = ()) -> Network:
    here = fit().network
    return Network((*here.links, *links), (*here.routes, *routes), here.nameservers, firewall_managers=firewalls)
