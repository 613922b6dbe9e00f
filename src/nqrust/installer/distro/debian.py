"""Debian 11 and later, and derivatives that name it in ID_LIKE."""

from __future__ import annotations

from nqrust.installer.distro.model import Distro, Edition
from nqrust.installer.verbs.packages.apt.installing import Apt

PACKAGES = {
    "postgresql": ("postgresql", "postgresql-client"),
    "postgresql-client": ("postgresql-client",),
    "dnsmasq": ("dnsmasq-base",),
    "qemu": ("qemu-system-x86", "qemu-utils"),
    "screen": ("screen",),
    "iptables": ("iptables",),
    "nftables": ("nftables",),
    "iproute2": ("iproute2",),
    "e2fsprogs": ("e2fsprogs",),
    "busybox": ("busybox-static",),
    "zstd": ("zstd",),
    "cpio": ("cpio",),
    "python": ("python3", "python3-venv"),
    "rust": ("cargo", "rustc"),
    "build": ("gcc", "libc6-dev"),
    "nodejs": ("nodejs", "npm"),
    "kmod": ("kmod",),
    "procps": ("procps",),
    "sudo": ("sudo",),
    "kernel": ("linux-image-cloud-amd64",),
    "image-builder": ("mmdebstrap", "libdpkg-perl"),  # mmdebstrap only recommends the second one, but the build needs it
}

DEBIAN = Distro(
    id="debian",
    title="Debian",
    min_version="11",
    manager=Apt(),
    packages=PACKAGES,
    editions={
        11: Edition({"rust": ("cargo-mozilla", "rustc-mozilla")}),  # 1.63; rustc is 1.48, which does not know Rust 2021
        12: Edition({"rust": PACKAGES["rust"]}),
    },
    residue_users=("postgres", "dnsmasq"),
    residue_groups=("postgres", "dnsmasq", "ssl-cert", "rdma"),
)
