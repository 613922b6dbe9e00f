"""Checks of the smaller file systems that an install writes to; `machine.py` checks the large ones."""

from __future__ import annotations

from collections.abc import Iterator

from nqrust.contract import paths
from nqrust.host.port import Host, Kind
from nqrust.installer.preflight.findings import Finding, error
from nqrust.installer.settings.model import Settings

CACHE_MIB = 1500
"""MiB for wheels, the built release and an image's packages, with space to unpack them."""
CONTAINER_MIB = 4000
"""MiB: 3 GB as for every install, and 1 GiB to build the container runtime image."""


def writable(settings: Settings, host: Host) -> Iterator[Finding]:
    """Check that settings, units, the link to nqr, and logs are on writable file systems."""
    seen: set[str] = set()
    for path in (settings.paths.config_dir, "/etc", "/usr/local/bin", paths.CACHE_DIR, paths.LOG_DIR):
        usage = host.disk_usage(path)
        if usage.read_only and usage.mount_point not in seen:
            seen.add(usage.mount_point)
            yield error(
                "NQR-PRE-018",
                f"The file system of {path} ({usage.mount_point or '/'}) is read-only.",
                "Mount it writable. An install writes settings, units and logs there.",
            )


def executable(settings: Settings, host: Host) -> Iterator[Finding]:
    """Check that the install folder, from which services run, is not on a noexec file system (mount(8))."""
    usage = host.disk_usage(settings.paths.install_dir)
    if usage.noexec:
        yield error(
            "NQR-PRE-050",
            f"Programs cannot run from {settings.paths.install_dir}: {usage.mount_point or '/'} is mounted noexec.",
            f"Remount it (mount -o remount,exec {usage.mount_point or '/'}), or choose another folder with INSTALL_DIR.",
        )


def room(settings: Settings, host: Host, known: bool) -> Iterator[Finding]:
    """Check the free space for the cache, and for an image that is still to be built."""
    if not known:
        free = host.disk_usage(paths.CACHE_DIR).available >> 20
        if free < CACHE_MIB:
            yield error(
                "NQR-PRE-006",
                f"Only {free} MiB are free in {paths.CACHE_DIR}. The install needs {CACHE_MIB} MiB there.",
                f"Free {CACHE_MIB} MiB there, or accept it with --ignore-preflight NQR-PRE-006.",
            )
    images = settings.paths.image_dir
    if settings.components.container_runtime and not host.exists(f"{images}/container-runtime/image.json"):
        free = host.disk_usage(images).available >> 20
        if free < CONTAINER_MIB:
            yield error(
                "NQR-PRE-006",
                f"Only {free} MiB are free for {images}; with the container runtime image an install needs {CONTAINER_MIB} MiB.",
                f"Free {CONTAINER_MIB} MiB there, or leave --with-container-runtime out (--no-container-runtime).",
            )


def real_folders(settings: Settings, host: Host) -> Iterator[Finding]:
    """Check that each path is a folder, a symlink, or missing."""
    layout = settings.layout
    for path in (layout.install_dir, layout.config_dir, layout.data_dir, layout.image_dir, paths.STATE_DIR, paths.CACHE_DIR):
        stat = host.stat(path)
        if stat is not None and stat.kind not in (Kind.directory, Kind.symlink):
            yield error(
                "NQR-PRE-054",
                f"{path} exists and is not a folder.",
                f"Move it away (mv {path} {path}.old), then run the same command again.",
            )


def checks(settings: Settings, host: Host, known: bool) -> Iterator[Finding]:
    yield from writable(settings, host)
    yield from executable(settings, host)
    yield from room(settings, host, known)
    yield from real_folders(settings, host)
