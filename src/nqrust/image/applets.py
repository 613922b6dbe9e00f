"""busybox's programs as a guest gets them, and what stands in for one that does not work."""

from __future__ import annotations

from nqrust.host.port import Host, command
from nqrust.image import resources


def listed(host: Host, busybox: str) -> list[str]:
    """Paths of its programs without the first slash, in order."""
    return sorted(set(host.run(command(busybox, "--list-full", timeout=20)).stdout.split()))


def functions(paths: list[str]) -> str:
    """For a shell's profile: busybox's shell runs its own programs before any on PATH, and a function before both."""
    lines = [f'{path.rpartition("/")[2]}() {{ /{path} "$@"; }}\n' for path in paths]
    return "".join([*lines, "export ENV=/etc/profile\n"]) if lines else ""  # interactive shells that are no login's


def instead(host: Host, busybox: str, paths: list[str]) -> dict[str, bytes]:
    """Name of a program -> script to have in its place.

    Debian builds busybox-static without FEATURE_WGET_TIMEOUT. Such a wget takes `-T` all the same, and dies of it: it
    stores the number at address 0 (busybox, networking/wget.c). Its help then does not name the option.
    """
    if not any(path.rpartition("/")[2] == "wget" for path in paths):
        return {}
    told = host.run(command(busybox, "wget", "--help", timeout=20))
    return {} if "-T SEC" in told.stdout + told.stderr else {"wget": resources.read("tiny/wget")}
