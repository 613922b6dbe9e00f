"""bundle build and bundle verify."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nqrust.host.facts import os as os_facts
from nqrust.host.local import LocalHost
from nqrust.image import container
from nqrust.installer.distro import registry
from nqrust.installer.engine.errors import ReleaseError, StepFailed, UsageError
from nqrust.installer.platform.firecracker.source import source
from nqrust.installer.release.bundle import archive
from nqrust.installer.release.bundle.build import Ingredients, write
from nqrust.installer.release.bundle.opening import check, system_of
from nqrust.installer.release.interpreter import interpreter
from nqrust.installer.settings.firecracker import VERSION
from nqrust.installer.verbs.packages.registry import collecting

ROLES = (
    "postgresql", "postgresql-client", "dnsmasq", "qemu", "screen", "iptables", "nftables", "iproute2", "e2fsprogs",
    "zstd", "kmod", "procps", "sudo", "skopeo",
)  # fmt: skip
"""Package roles (distro/) of all installs on a host that has a Python: each mode and each network."""


@dataclass(frozen=True)
class Checked:
    """A good bundle. `signed`: by the given key."""

    version: str
    system: str
    python: str
    files: int
    size: int
    signed: bool


EXTRAS = {"images": "tiny", "container-runtime": container.NAME}
"""Word of --with -> the image that it adds."""


def extras(words: str) -> tuple[str, ...]:
    """Return the images that the words of --with add. Raises UsageError NQR-REL-082."""
    named = [word.strip() for word in words.split(",") if word.strip()]
    unknown = next((word for word in named if word not in EXTRAS), None)
    if unknown is not None:
        raise UsageError(
            "NQR-REL-082",
            f"--with does not know {unknown}.",
            f"Name one or more of {', '.join(EXTRAS)}, separated by commas.",
        )
    return tuple(image for word, image in EXTRAS.items() if word in named)


def build_bundle(
    checkout: str,
    output: str,
    system: str,
    firecracker: str,
    key: str,
    images: tuple[str, ...],
    progress: Callable[[str, float | None], None],
) -> str:
    """Write a bundle from this host's package sources and package index, and return its path. `system`: for which hosts, or "" for
    those like this one. `images`: to build here, for hosts that then build none. Raises ReleaseError, StepFailed, HostError."""
    host = LocalHost()
    os = os_facts.probe(host)
    here = system_of(os)
    distro, collector = registry.kin(os), collecting(host)
    if (system or here) != here:
        raise ReleaseError(
            "NQR-REL-064",
            f"This host has {here}, so it cannot build a bundle for {system}.",
            f"Run scripts/install/bundle.sh on a host with {system}.",
        )
    if distro is None or collector is None:
        raise ReleaseError(
            "NQR-REL-064", f"This version builds no bundles for {here}.", "Build a bundle on Debian or Ubuntu, for such hosts."
        )
    if firecracker:
        wanted = source(VERSION, firecracker)
        if host.sha256(firecracker) != wanted.sha256:
            raise StepFailed(
                "NQR-REL-043",
                f"{firecracker} is not the published archive of {wanted.label}.",
                "For an archive of your own, set NQR_FIRECRACKER_SHA256.",
            )
    ingredients = Ingredients(checkout, here, distro.names(ROLES), collector, firecracker, key, images, interpreter().brought)
    return write(host, ingredients, output, interpreter().runner, progress)


def verify_bundle(path: str, key: str) -> Checked:
    """Read a whole bundle and check each file. `key`: a file with the publisher's public key, or "". Raises ReleaseError."""
    head = check(LocalHost(), path, key or None)
    try:
        for _, chunks in archive.files(path, head.digest):
            for _ in chunks:
                pass
    except OSError as error:
        raise archive.unreadable(error.strerror or str(error)) from error
    contents = head.contents
    return Checked(contents.version, contents.system, contents.python, len(contents.digests), contents.size, bool(key))
