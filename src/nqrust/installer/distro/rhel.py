"""Red Hat Enterprise Linux 8 and later, and its rebuilds with the same version numbers."""

from __future__ import annotations

from nqrust.installer.distro.model import Distro
from nqrust.installer.verbs.packages.dnf.installing import Dnf

RHEL = Distro(
    id="rhel",
    title="Red Hat Enterprise Linux",
    min_version="8",
    manager=Dnf(),
    packages={
        "postgresql": ("postgresql", "postgresql-server", "postgresql-contrib"),
        "postgresql-client": ("postgresql",),
        "dnsmasq": ("dnsmasq",),
        "qemu": ("qemu-kvm", "qemu-img"),
        "screen": ("screen",),  # from EPEL
        "iptables": ("iptables",),
        "nftables": ("nftables",),
        "iproute2": ("iproute", "iproute-tc"),
        "e2fsprogs": ("e2fsprogs",),
        "busybox": ("busybox",),  # from EPEL
        "zstd": ("zstd",),
        "cpio": ("cpio",),
        "python": ("python3.11",),
        "rust": ("cargo", "rust"),
        "build": ("gcc", "glibc-devel"),
        "nodejs": ("nodejs", "npm"),
        "kmod": ("kmod",),
        "procps": ("procps-ng",),
        "sudo": ("sudo",),
        "kernel": ("kernel-core",),
    },
    kin_share_versions=True,
    residue_users=("postgres", "dnsmasq"),
    residue_groups=("postgres", "dnsmasq"),
    postgres_layout="redhat",
    aliases=frozenset({"rocky", "almalinux", "centos", "ol"}),
)
