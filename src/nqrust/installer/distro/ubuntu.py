"""Ubuntu 22.04 and later, and derivatives that name it in ID_LIKE (Linux Mint, Pop!_OS, …)."""

from __future__ import annotations

from nqrust.installer.distro.debian import PACKAGES
from nqrust.installer.distro.model import Distro
from nqrust.installer.verbs.packages.apt.installing import Apt

UBUNTU = Distro(
    id="ubuntu",
    title="Ubuntu",
    min_version="22.04",
    manager=Apt(),
    packages={**PACKAGES, "kernel": ("linux-image-virtual",)},
    residue_users=("postgres", "dnsmasq"),
    residue_groups=("postgres", "dnsmasq", "ssl-cert", "rdma"),
)
