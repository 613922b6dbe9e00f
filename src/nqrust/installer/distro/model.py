"""The differences between distributions, as data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nqrust.host.facts.model import Os
from nqrust.installer.verbs.packages.manager import Installing

ROLES = (
    "postgresql",  # server and client
    "postgresql-client",  # psql and pg_dump, for a remote database
    "dnsmasq",  # the program without its service, if the distribution splits the package
    "qemu",  # qemu-system-x86_64 with its firmware
    "screen",
    "iptables",
    "nftables",
    "iproute2",
    "e2fsprogs",  # mke2fs, debugfs, resize2fs
    "busybox",  # statically linked, for images
    "zstd",  # newer distributions compress kernels and modules with it
    "cpio",
    "python",  # python3 with venv
    "rust",  # rustc and cargo
    "build",  # C compiler and linker
    "nodejs",
    "kmod",  # modprobe
    "procps",
    "sudo",  # with visudo
    "kernel",  # a kernel package with the files that the tiny image boots; downloaded, not installed
)

OPTIONAL_ROLES = ("image-builder",)
"""Roles that a distribution may lack. image-builder is mmdebstrap, for the container runtime image."""


def version_tuple(text: str) -> tuple[int, ...]:
    """Convert `22.04` to (22, 4); empty or unreadable text gives ()."""
    parts = text.split(".")
    return tuple(int(p) for p in parts) if all(p.isdigit() for p in parts) else ()


@dataclass(frozen=True)
class Distro:
    """A supported distribution. `min_version` is compared with VERSION_ID; a system without VERSION_ID is a rolling release
    and new enough.

    `kin_share_versions`: whether distributions that name this one in ID_LIKE use the same version numbers
    (Rocky and RHEL do, Linux Mint and Ubuntu do not). `min_codename_of`: VERSION_CODENAME values that are too old,
    for derivatives.
    `python_from`: the first version whose own Python is new enough, where that is not `min_version`.
    `residue_users`/`residue_groups`: accounts that nqr's packages create and their purge leaves behind.
    """

    id: str
    title: str
    min_version: str
    manager: Installing
    packages: Mapping[str, tuple[str, ...]]
    kin_share_versions: bool = False
    python_from: str = ""
    residue_users: tuple[str, ...] = ()
    residue_groups: tuple[str, ...] = ()
    postgres_service: str = "postgresql"
    postgres_layout: str = "debian"  # debian: pg_ctlcluster and /etc/postgresql; redhat: one cluster, postgresql-setup
    aliases: frozenset[str] = field(default_factory=frozenset)

    def names(self, roles: Iterable[str]) -> tuple[str, ...]:
        """Return the package names of the roles, sorted and without duplicates. Raises KeyError for an unknown role."""
        return tuple(sorted({name for role in roles for name in self.packages[role]}))

    def is_old(self, os: Os) -> bool:
        """Return whether the release is too old, as far as its version shows."""
        if os.id != self.id and os.id not in self.aliases and not self.kin_share_versions:
            return False
        have = version_tuple(os.version_id)
        return bool(have) and have < version_tuple(self.min_version)
