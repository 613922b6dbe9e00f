"""Ubuntu 22.04 and later, and derivatives that name it in ID_LIKE (Linux Mint, Pop!_OS, …)."""

from __future__ import annotations

from nqrust.installer.distro.debian import PACKAGES
from nqrust.installer.distro.model import Distro, Edition
from nqrust.installer.verbs.packages.apt.installing import Apt

UBUNTU = Distro(
    id="ubuntu",
    title="Ubuntu",
    min_version="22.04",
    manager=Apt(),
    editions={
        22: Edition(versions={"nodejs": (12, 22), "sudo": (1, 9, 9), "recent-rust": (1, 75)}),
        24: Edition(versions={"nodejs": (18, 19), "sudo": (1, 9, 15)}),
        25: Edition(versions={"nodejs": (20, 18), "sudo": (1, 9, 16)}),
    },
    packages={**PACKAGES, "kernel": ("linux-image-virtual",)},
    residue_users=("postgres", "dnsmasq"),
    residue_groups=("postgres", "dnsmasq", "ssl-cert", "rdma"),
)
