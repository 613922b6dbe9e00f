"""Red Hat Enterprise Linux 8 and later, and its rebuilds with the same version numbers."""

from __future__ import annotations

from nqrust.installer.distro.model import Distro, Edition
from nqrust.installer.verbs.packages.dnf.installing import Dnf
from nqrust.installer.verbs.packages.dnf.stream import ModuleStream

_POSTGRES_15 = ModuleStream("postgresql", "15", unless="postgresql")
"""RHEL 8 installs PostgreSQL 10 unless a newer stream of the module is enabled. RHEL 9 has 13, RHEL 10 has 16."""

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
        "zstd": ("zstd",),
        "cpio": ("cpio",),
        "skopeo": ("skopeo",),
        "python": ("python3.11",),
        "rust": ("cargo", "rust"),
        "recent-rust": ("cargo", "rust"),
        "build": ("gcc", "glibc-devel"),
        "nodejs": ("nodejs",),
        "npm": ("npm",),
        "kmod": ("kmod",),
        "procps": ("procps-ng",),
        "sudo": ("sudo",),
        "kernel": ("kernel-core",),
        "selinux": ("policycoreutils-python-utils",),
    },
    editions={
        8: Edition(
            before={"postgresql": _POSTGRES_15, "postgresql-client": _POSTGRES_15},
            versions={"nodejs": (10,), "sudo": (1, 9, 5), "recent-rust": (1, 75)},
        ),
        9: Edition({"iptables": ("iptables-nft",)}, versions={"nodejs": (16,), "sudo": (1, 9, 5)}),
        10: Edition({"python": ("python3",), "npm": ("nodejs-npm",)}, versions={"nodejs": (22,), "sudo": (1, 9, 15)}),
    },
    extra_roles=frozenset({"screen"}),
    extra_repository={
        "rocky": "epel-release",
        "almalinux": "epel-release",
        "centos": "epel-release",
        "ol": "oracle-epel-release-el{major}",
    },
    kin_share_versions=True,
    residue_users=("postgres", "dnsmasq"),
    residue_groups=("postgres", "dnsmasq"),
    postgres_layout="redhat",
    aliases=frozenset({"rocky", "almalinux", "centos", "ol"}),
)
