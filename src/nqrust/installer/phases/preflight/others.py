"""Checks for another installation and for what a plan cannot do yet."""

from __future__ import annotations

from collections.abc import Iterator

from nqrust.host.port import Host
from nqrust.installer.phases.preflight.findings import Finding, error
from nqrust.installer.settings import Settings


def foreign_installation(settings: Settings, host: Host, known: bool) -> Iterator[Finding]:
    """A populated INSTALL_DIR or our unit names without a receipt of ours: another installer's work.

    `known`: the journal knows an installation (finished or not), so what is there is ours."""
    if known:
        return
    install_dir = settings.paths.install_dir
    if host.exists(install_dir) and host.listdir(install_dir):
        yield error(
            "NQR-PRE-015",
            f"{install_dir} holds an installation that nqr did not make.",
            f"Remove it with its own uninstaller, move {install_dir} away, or choose another folder with INSTALL_DIR.",
        )
    for unit in ("nqrust-manager.service", "nqrust-agent.service"):
        if host.exists(f"/etc/systemd/system/{unit}"):
            yield error(
                "NQR-PRE-015",
                f"{unit} exists and was not made by nqr.",
                f"Remove the other installation first (systemctl disable --now {unit}; rm /etc/systemd/system/{unit}).",
            )
