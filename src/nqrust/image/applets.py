"""busybox's programs in a guest, and replacements for those that do not work."""

from __future__ import annotations

from nqrust.host.port import Host, command
from nqrust.image import resources


def listed(host: Host, busybox: str) -> list[str]:
    """Return paths of its programs without the first slash, in order."""
    return sorted(set(host.run(command(busybox, "--list-full", timeout=20)).stdout.split()))


def functions(paths: list[str]) -> str:
    """Return functions for a shell's profile: busybox's shell prefers its own programs to PATH, and functions to both."""
    lines = [f'{path.rpartition("/")[2]}() {{ /{path} "$@"; }}\n' for path in paths]
    return "".join([*lines, "export ENV=/etc/profile\n"]) if lines else ""  # interactive shells that are no login's


def instead(host: Host, busybox: str, paths: list[str]) -> dict[str, bytes]:
    """Return name of a program -> script that replaces it.

    Debian builds busybox-static without FEATURE_WGET_TIMEOUT. Such a wget accepts `-T` and crashes: it stores the number at
    address 0 (busybox, networking/wget.c). Its help does not name the option.
    """
    if not any(path.rpartition("/")[2] == "wget" for path in paths):
        return {}
    told = host.run(command(busybox, "wget", "--help", timeout=20))
    return {} if "-T SEC" in told.stdout + told.stderr else {"wget": resources.read("tiny/wget")}
