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
    "zstd": ("zstd",),
    "cpio": ("cpio",),
    "skopeo": ("skopeo",),
    "python": ("python3", "python3-venv"),
    "rust": ("cargo", "rustc"),
    "recent-rust": ("cargo", "rustc"),
    "build": ("gcc", "libc6-dev"),
    "nodejs": ("nodejs",),
    "npm": ("npm",),
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
        # 1.63; rustc is 1.48, which does not know Rust 2021
        11: Edition({"rust": ("cargo-mozilla", "rustc-mozilla")}, versions={"nodejs": (12, 22), "sudo": (1, 9, 5)}),
        12: Edition(
            {"rust": PACKAGES["rust"], "recent-rust": ("cargo-web", "rustc-web")},
            versions={"nodejs": (18, 20), "sudo": (1, 9, 13), "recent-rust": (1, 85)},
        ),
        13: Edition(
            {"recent-rust": PACKAGES["rust"]},
            versions={"nodejs": (20, 19), "sudo": (1, 9, 16), "recent-rust": (1, 85)},
        ),
    },
    residue_users=("postgres", "dnsmasq"),
    residue_groups=("postgres", "dnsmasq", "ssl-cert", "rdma"),
)
