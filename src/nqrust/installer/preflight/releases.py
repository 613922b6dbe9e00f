"""Checks for a release in upstream's form, whose programs are not this project's."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nqrust.host.errors import HostError
from nqrust.host.facts.model import Facts
from nqrust.host.port import Host, command
from nqrust.installer.distro import registry
from nqrust.installer.preflight.findings import Finding, error, warning
from nqrust.installer.release.installed import installed_release
from nqrust.installer.settings.model import Settings, VmmChoice
from nqrust.installer.settings.options import BY_NAME
from nqrust.installer.settings.record import value_of

EFFECT, SUDO, STRANGERS, OTHER = "NQR-REL-074", "NQR-SUD-106", "NQR-REL-075", "NQR-REL-076"
CODES = (EFFECT, SUDO, OTHER)
BOUNDED = (1, 9, 10)
"""The first version of sudo that can bound arguments with an expression (sudoers(5))."""
_OURS = (
    "components.container_runtime",
    "manager.disk_overcommit",
    "manager.events_days",
    "manager.audit_days",
    "manager.operations_days",
    "tls.mode",
    "tls.certificate",
)
"""Settings that only this project's manager reads, or images that only it registers."""


def checks(settings: Settings, facts: Facts, host: Host, form: str, here: Settings | None) -> Iterator[Finding]:
    """Yield what speaks against a release in upstream's form on this host, and what to know about it. `here`: settings of the
    installation, which must have the same form: neither manager knows the other's tables."""
    was = installed_release(host, here) if here is not None else None
    if was is not None and was.form != form:
        yield error(
            OTHER,
            f"This host has release {was.version}, whose programs are of another project than those of this release.",
            "Save your data, remove the installation with `nqr uninstall`, then install this release.",
        )
    if form != "upstream":
        return
    yield from _without_effect(settings)
    if settings.has_manager:
        yield from _sudo(facts, host)
    yield warning(
        STRANGERS,
        "The programs of this release are not this project's: they speak plain HTTP, and the manager checks no caller. "
        "Its guests can reach it. Keep other machines from its ports.",
    )


def _without_effect(settings: Settings) -> Iterator[Finding]:
    defaults = Settings()
    found = [name for name in _OURS if value_of(settings, name) != value_of(defaults, name)]
    if settings.has_agent and settings.vmm is VmmChoice.qemu:
        found.append("vmm")
    for name in found:
        flag = BY_NAME[name].flag
        yield error(EFFECT, f"{flag} has no effect with this release, whose programs do not know it.", f"Leave {flag} out.")


def _sudo(facts: Facts, host: Host) -> Iterator[Finding]:
    distro = registry.kin(facts.os)
    version = _installed(host) or (distro.versions.get("sudo", ()) if distro else ())
    if version >= BOUNDED:
        return
    has = f"sudo {'.'.join(map(str, version))}" if version else "a sudo of unknown version"
    yield error(
        SUDO,
        f"The manager of this release runs commands through sudo, and this system has {has}, which cannot bound their arguments.",
        "Use a newer system, such as Debian 12 or Ubuntu 24.04. --mode agent works here.",
    )


def _installed(host: Host) -> tuple[int, ...]:
    if host.which("sudo") is None:
        return ()
    try:
        said = host.run(command("sudo", "-V", timeout=20)).stdout
    except HostError:
        return ()
    match = re.search(r"version (\d{1,4})\.(\d{1,4})\.(\d{1,4})", said)
    return tuple(int(number) for number in match.groups()) if match else ()
