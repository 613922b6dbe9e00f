"""The differences between distributions, as data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from nqrust.host.facts.model import Os
from nqrust.installer.engine.step import Step
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
    "zstd",  # newer distributions compress kernels and modules with it
    "cpio",
    "skopeo",  # fetches container images
    "python",  # python3 with venv
    "rust",  # rustc and cargo
    "recent-rust",  # Rust 1.70 or later, if `versions` says so
    "build",  # C compiler and linker
    "nodejs",
    "npm",
    "kmod",  # modprobe
    "procps",
    "sudo",  # with visudo
    "kernel",  # a kernel package with the files that the tiny image boots; downloaded, not installed
)

OPTIONAL_ROLES = ("image-builder", "selinux")
"""Roles that a distribution may lack. image-builder is mmdebstrap, for the container runtime image. selinux is semanage(8)."""


def version_tuple(text: str) -> tuple[int, ...]:
    """Convert `22.04` to (22, 4); empty or unreadable text gives ()."""
    parts = text.split(".")
    return tuple(int(p) for p in parts) if all(p.isdigit() for p in parts) else ()


@dataclass(frozen=True)
class Edition:
    """Changes from a major version on. `packages`: roles whose packages have other names, in later versions too. `before`: role
    -> a step that must come before its packages, in this version only. `versions`: role -> the version that its packages
    have, in later versions at least."""

    packages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    before: Mapping[str, Step] = field(default_factory=dict)
    versions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Distro:
    """A supported distribution. `min_version` is compared with VERSION_ID; a system without VERSION_ID is a rolling release
    and new enough.

    `kin_share_versions`: whether distributions that name this one in ID_LIKE use the same version numbers
    (Rocky and RHEL do, Linux Mint and Ubuntu do not).
    `residue_users`/`residue_groups`: accounts that nqr's packages create and their purge leaves behind.
    `editions`: major version -> its changes. `before`: those of the version at hand, see `Edition`.
    `versions`: role -> the version that its packages have here, as far as it is known.
    `extra_roles`: roles whose packages are in an additional repository. `extra_repository`: ID -> the package that enables it
    there (`{major}` stands for the version); a distribution without an entry has no such package.
    """

    id: str
    title: str
    min_version: str
    manager: Installing
    packages: Mapping[str, tuple[str, ...]]
    kin_share_versions: bool = False
    residue_users: tuple[str, ...] = ()
    residue_groups: tuple[str, ...] = ()
    postgres_layout: str = "debian"  # debian: pg_ctlcluster and /etc/postgresql; redhat: one cluster, postgresql-setup
    aliases: frozenset[str] = field(default_factory=frozenset)
    editions: Mapping[int, Edition] = field(default_factory=dict)
    before: Mapping[str, Step] = field(default_factory=dict)
    versions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    extra_roles: frozenset[str] = frozenset()
    extra_repository: Mapping[str, str] = field(default_factory=dict)

    def of(self, os: Os) -> Distro:
        """Return the distribution as this machine's version has it."""
        major = version_tuple(os.version_id)[:1]
        if not major or not self._shares_versions(os):
            return self
        packages, before, versions = dict(self.packages), dict(self.before), dict(self.versions)
        for since, edition in sorted(self.editions.items()):
            if since <= major[0]:
                packages.update(edition.packages)
                versions.update(edition.versions)
                before = dict(edition.before) if since == major[0] else before
        repository = self.extra_repository.get(os.id, "").format(major=major[0])
        extra = {os.id: repository} if repository else {}
        return replace(self, packages=packages, before=before, versions=versions, extra_repository=extra)

    def names(self, roles: Iterable[str]) -> tuple[str, ...]:
        """Return the package names of the roles, sorted and without duplicates. Raises KeyError for an unknown role."""
        return tuple(sorted({name for role in roles for name in self.packages[role]}))

    def is_old(self, os: Os) -> bool:
        """Return whether the release is too old, as far as its version shows."""
        if not self._shares_versions(os):
            return False
        have = version_tuple(os.version_id)
        return bool(have) and have < version_tuple(self.min_version)

    def _shares_versions(self, os: Os) -> bool:
        return os.id == self.id or os.id in self.aliases or self.kin_share_versions
