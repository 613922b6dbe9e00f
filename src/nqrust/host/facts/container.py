"""Which kind of container this machine is, if any, and what runs as PID 1 (systemd's Container Interface)."""

from __future__ import annotations

from nqrust.host.facts.reading import text
from nqrust.host.port import Host

_KNOWN = ("docker", "systemd-nspawn", "lxc", "podman")


def probe(host: Host) -> str:
    manager = (
        text(host, "/run/systemd/container").strip()
        or text(host, "/run/host/container-manager").strip()
        or parse_environment(text(host, "/proc/1/environ")).get("container", "")
    )
    if not manager and host.exists("/run/.containerenv"):
        manager = "podman"
    if not manager and host.exists("/.dockerenv"):
        manager = "docker"
    return classify(manager)


def classify(manager: str) -> str:
    if not manager:
        return ""
    if manager in ("oci", "container-other"):
        return "other"
    return next((known for known in _KNOWN if manager.startswith(known)), "other")


def parse_environment(content: str) -> dict[str, str]:
    """/proc/PID/environ: NAME=VALUE, each ended by a NUL."""
    return dict(entry.split("=", 1) for entry in content.split("\0") if "=" in entry)


def supervisor(host: Host) -> str:
    """`systemd` when it is PID 1 and has booted the machine (sd_booted(3)), else `none`."""
    booted = host.exists("/run/systemd/system") and text(host, "/proc/1/comm").strip() == "systemd"
    return "systemd" if booted else "none"
