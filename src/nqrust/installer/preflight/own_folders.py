"""Check that the folders of an install are nqr's own: root hands the image folder to the manager's group, and an uninstall removes
what is in them."""

from __future__ import annotations

from collections.abc import Iterator

from nqrust.contract import paths
from nqrust.host.port import Host
from nqrust.host.way import leads
from nqrust.installer.preflight.findings import Finding, error
from nqrust.installer.settings.model import Settings

_HOLD_FOLDERS = frozenset(("/home", "/media", "/mnt", "/opt", "/srv"))
"""Folders of the system in which VMs may be kept: nqr leaves an existing DATA_DIR as it is, and makes its own folders there."""

_OF_THE_SYSTEM = _HOLD_FOLDERS | frozenset(
    (
        "/", "/root", "/run", "/tmp", "/usr", "/usr/local", "/var", "/var/cache", "/var/lib", "/var/local", "/var/log", "/var/mail",
        "/var/opt", "/var/spool", "/var/tmp",
    )
)  # fmt: skip
"""Folders of the Filesystem Hierarchy Standard, in which others have folders of their own."""

_CLOSED = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sbin", "/sys", "/usr/bin", "/usr/include",
    "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/libx32", "/usr/sbin", "/usr/share", "/usr/local/bin",
    "/usr/local/etc", "/usr/local/lib", "/usr/local/libexec", "/usr/local/sbin", "/usr/local/share",
)  # fmt: skip
"""Folders of the system with everything below. CONFIG_DIR may be below /etc."""

_FIXED = (paths.STATE_DIR, paths.LOG_DIR, paths.INSTALL_LOG_DIR, paths.CACHE_DIR, paths.RUN_DIR)


def checks(settings: Settings, host: Host, known: bool) -> Iterator[Finding]:
    """`known`: nqr is installed there, and the folders cannot change."""
    if known:
        return
    folders = _options(settings.layout)
    real = {option: [*leads(host, path)][-1] for option, path in folders.items()}
    faults = {
        option: fault
        for option, path in folders.items()
        if (fault := _is_of_the_system(option, path) or _is_of_the_system(option, real[option]))
    }
    fit = {option: path for option, path in real.items() if option not in faults}
    for option in fit:
        if fault := _is_in_another(option, fit):
            faults[option] = fault
    examples = _options(paths.Layout())
    for option, fault in faults.items():
        yield _refused(option, folders[option], fault, examples[option])


def _refused(option: str, path: str, fault: str, example: str) -> Finding:
    return error(
        "NQR-PRE-055",
        f"{option} is {path}. That {fault}.",
        f"Choose a folder of nqr's own with {option}, for example {example}.",
    )


def _is_of_the_system(option: str, path: str) -> str | None:
    if path in _OF_THE_SYSTEM and not (option == "DATA_DIR" and path in _HOLD_FOLDERS):
        return f"is the system's folder {path}"
    for folder in _CLOSED:
        if _inside(path, folder) and not (option == "CONFIG_DIR" and folder == "/etc" != path):
            return f"is in the system's folder {folder}"
    for folder in _FIXED:
        if _inside(path, folder) or _inside(folder, path):
            return f"overlaps nqr's folder {folder}"
    return None


def _is_in_another(option: str, real: dict[str, str]) -> str | None:
    """Return why a folder cannot be in another option's. DATA_DIR may hold others beside its own folders."""
    path, order = real[option], [*real]
    for other, folder in real.items():
        if other == option or not _inside(path, folder) or (path == folder and order.index(option) < order.index(other)):
            continue
        data = paths.Layout(data_dir=folder)
        own = (data.vms_dir, data.volumes_dir, data.image_cache_dir)
        if other != "DATA_DIR" or path == folder or any(_inside(path, one) for one in own):
            return f"is in {other} ({folder})"
    return None


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")


def _options(layout: paths.Layout) -> dict[str, str]:
    return {
        "INSTALL_DIR": layout.install_dir,
        "CONFIG_DIR": layout.config_dir,
        "DATA_DIR": layout.data_dir,
        "IMAGE_DIR": layout.image_dir,
    }
