"""What is particular to a distribution, as data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nqrust.host.facts.model import Os
from nqrust.installer.verbs.packages.manager import Installing

ROLES = (
    "postgresql",  # server and client
    "postgresql-client",  # psql and pg_dump, for a database elsewhere
    "dnsmasq",  # the program without a service of its own, where the distribution splits it
    "qemu",  # qemu-system-x86_64 with its firmware
    "screen",
    "iptables",
    "iproute2",
    "e2fsprogs",  # mke2fs, debugfs, resize2fs
    "busybox",  # a statically linked one, for images
    "zstd",  # kernels and modules of newer distributions are packed with it
    "cpio",
    "python",  # python3 with venv
    "rust",  # rustc and cargo
    "build",  # C compiler and linker
    "nodejs",
    "kmod",  # modprobe
    "procps",
    "sudo",  # with visudo
    "kernel",  # a kernel package whose files the tiny image boots; downloaded, not installed
)

OPTIONAL_ROLES = ("image-builder",)
"""Roles that a distribution may lack: image-builder is mmdebstrap, for the container runtime image."""


def version_tuple(text: str) -> tuple[int, ...]:
    """`22.04` -> (22, 4); empty or unreadable -> ()."""
    parts = text.split(".")
    return tuple(int(p) for p in parts) if all(p.isdigit() for p in parts) else ()


@dataclass(frozen=True)
class Distro:
    """`min_version` is compared with VERSION_ID; a missing VERSION_ID is a rolling release and new enough.

    `kin_share_versions`: whether distributions that name this one in ID_LIKE number their releases alike
    (Rocky and RHEL do, Linux Mint and Ubuntu do not). `min_codename_of`: VERSION_CODENAME values known to be
    too old, for kin.
    `python_from`: the first version whose own Python is new enough, where that is not `min_version`.
    `residue_users`/`residue_groups`: accounts that packages of ours create and their purge leaves behind.
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
        """Package names of the roles, sorted, each once. Raises KeyError for an unknown role."""
        return tuple(sorted({name for role in roles for name in self.packages[role]}))

    def is_old(self, os: Os) -> bool:
        """Whether the release is older than what we support, as far as its version tells."""
        if os.id != self.id and os.id not in self.aliases and not self.kin_share_versions:
            return False
        have = version_tuple(os.version_id)
        return bool(have) and have < version_tuple(self.min_version)
