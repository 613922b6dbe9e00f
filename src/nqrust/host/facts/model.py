"""Facts about a machine, as data.

One file of this package gathers each part: a probe that reads through the Host port, and a pure parser that is tested with
captured output.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Os:
    """os-release(5)."""

    id: str
    version_id: str
    id_like: tuple[str, ...] = ()
    pretty_name: str = ""


@dataclass(frozen=True)
class Kernel:
    release: str
    version: tuple[int, int]
    machine: str  # uname -m
    boot_id: str = ""
    modules_loadable: bool = False  # /proc/modules exists and modprobe with a modules folder is there


@dataclass(frozen=True)
class Cpu:
    count: int
    flags: frozenset[str] = frozenset()

    @property
    def virtualisation(self) -> str | None:
        """`vmx`, `svm` or None."""
        return next((f for f in ("vmx", "svm") if f in self.flags), None)


@dataclass(frozen=True)
class Kvm:
    """`usable`: /dev/kvm opened and KVM_GET_API_VERSION returned 12. Only booting proves that a guest boots."""

    present: bool
    usable: bool
    reason: str = ""
    mode: int = 0
    group: str = ""
    nested: bool | None = None
    virtual_host: str = ""  # systemd-detect-virt style: kvm, vmware, "" for none or unknown
    module: str = ""  # the part of KVM for this processor, loaded or built in: kvm_intel, kvm_amd, kvm_pvm, ...


@dataclass(frozen=True)
class Memory:
    total_mib: int
    available_mib: int


@dataclass(frozen=True)
class FileSystem:
    path: str  # asked for
    mount_point: str
    fstype: str
    total_mib: int
    available_mib: int
    inodes_available: int
    read_only: bool


@dataclass(frozen=True)
class ListeningPort:
    """A listening TCP or UDP socket and its process. `pid` 0 and empty `process` if the kernel does not report it. `user`: the
    number of the user who made it, None if unknown."""

    protocol: str  # tcp | udp
    address: str
    port: int
    pid: int = 0
    process: str = ""
    user: int | None = None


@dataclass(frozen=True)
class Link:
    name: str
    kind: str  # bridge, tun, veth, "" for a plain one
    up: bool
    mac: str
    master: str | None = None
    addresses: tuple[str, ...] = ()  # CIDR


@dataclass(frozen=True)
class Route:
    destination: str  # "default" or CIDR
    device: str
    gateway: str | None = None
    metric: int = 0
    source: str | None = None
    protocol: str = ""


@dataclass(frozen=True)
class PostgresCluster:
    version: int
    name: str
    port: int
    online: bool
    owner: str
    data_dir: str
    socket_dir: str = "/var/run/postgresql"
    doubt: str = ""
    """Why it is not one that this owner runs."""
    conf: str = ""
    """Its postgresql.conf."""
    place: str = ""
    """Where its data is usually, by its version and name: this stays when the data moves."""

    @property
    def usable(self) -> bool:
        """Whether it can be asked now."""
        return self.online and not self.doubt


@dataclass(frozen=True)
class Network:
    links: tuple[Link, ...] = ()
    routes: tuple[Route, ...] = ()
    nameservers: tuple[str, ...] = ()
    firewall_managers: tuple[str, ...] = ()  # active ones of: firewalld, ufw, nftables, docker, libvirt

    @property
    def uplink(self) -> str | None:
        """Device of the default route with the lowest metric."""
        defaults = sorted((r for r in self.routes if r.destination == "default"), key=lambda r: r.metric)
        return defaults[0].device if defaults else None

    @property
    def own_address(self) -> str:
        """IPv4 address of the uplink, by which other machines most likely reach this host. Empty without one."""
        there = (link.addresses for link in self.links if link.name == self.uplink)
        return next((cidr.partition("/")[0] for addresses in there for cidr in addresses if ":" not in cidr), "")


@dataclass(frozen=True)
class Facts:
    os: Os
    kernel: Kernel
    cpu: Cpu
    kvm: Kvm
    memory: Memory
    hostname: str
    euid: int
    supervisor: str  # systemd | none
    container: str  # "" | docker | systemd-nspawn | lxc | podman | other
    file_systems: tuple[FileSystem, ...] = ()
    ports: tuple[ListeningPort, ...] = ()
    network: Network = Network()
    packages: frozenset[str] = frozenset()
    postgres: tuple[PostgresCluster, ...] = ()
    clock_utc: float = 0.0
    clock_synchronised: bool | None = None
    proxy: dict[str, str] = field(default_factory=dict)
    selinux: str = ""  # enforcing | permissive | "" without it
