"""The bundled release: this project's manager, agent, guest agent and web UI, as a descriptor.

Its artifacts, relative to the release's folder:

    release.json
    wheels/nqrust_microvm-VERSION-py3-none-any.whl   all of the project's Python
    requirements/{installer,manager,agent,ui,supervisord,node}.txt   third-party wheels, pinned by hash
    requirements/nqrust.txt     the project's own wheel, pinned by hash
    guest-agent                 static binary
    libexec/nqrust-helper       the program with which the agent writes into disks that must be mounted first
"""

from __future__ import annotations

import json
import re

from nqrust.host.port import Host
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.release.descriptor import (
    Component,
    ComponentKind,
    ImageSource,
    Release,
)
from nqrust.installer.release.digest import source_digest

DESCRIPTOR = "release.json"
GUEST_AGENT = "guest-agent"
HELPER = "libexec/nqrust-helper"
OWN_WHEEL = "requirements/nqrust.txt"
REQUIREMENTS = ("installer", "manager", "agent", "ui", "supervisord")
LOCKS = (*REQUIREMENTS, "node")
"""The locks of a release. The last one is for releases in upstream's form, which nqr installs too."""

COMPONENTS = (
    Component(
        name="manager",
        kind=ComponentKind.python,
        requirements=("requirements/manager.txt", OWN_WHEEL),
        start=("{bin}/manager",),
        env_file="manager.env",
        port_variable="MANAGER_BIND",
        health="/health",
        migrate=("{bin}/manager", "migrate"),
        run_as="service",
    ),
    Component(
        name="agent",
        kind=ComponentKind.python,
        requirements=("requirements/agent.txt", OWN_WHEEL),
        start=("{bin}/agent",),
        env_file="agent.env",
        port_variable="AGENT_BIND",
        health="/agent/v1/health",
        run_as="root",
        packages=("qemu", "screen", "e2fsprogs", "iproute2", "dnsmasq", "iptables"),
    ),
    Component(
        name="guest-agent",
        kind=ComponentKind.binary,
        artifact=GUEST_AGENT,
        packages=("cpio",),
    ),
    Component(
        name="ui",
        kind=ComponentKind.python,
        requirements=("requirements/ui.txt", OWN_WHEEL),
        start=("{bin}/ui",),
        env_file="ui.env",
        port_variable="UI_BIND",
        health="/health",
        run_as="service",
    ),
)
"""`{bin}` is the installation's bin folder; `packages` are roles, which the distribution's registry translates."""

CONSOLE_SCRIPTS = {"manager": "nqrust-manager", "agent": "nqrust-agent", "ui": "nqrust-ui"}
"""Component -> console script in the release's environment, the target of `{bin}/<component>`."""

IMAGES = (
    ImageSource(name="tiny", build="tiny"),
    ImageSource(name="container-runtime", build="container-runtime"),
)
"""The installer builds the second only on request (`components.container_runtime`)."""


def project_version(text: str) -> str:
    """Return `version` of a pyproject.toml's [project] table. Raises ReleaseError NQR-REL-002."""
    table = re.search(r"(?ms)^\[project\]\s*$(.*?)(?=^\[|\Z)", text)
    found = re.search(r'(?m)^version\s*=\s*"([0-9A-Za-z][0-9A-Za-z.+-]*)"\s*$', table.group(1)) if table else None
    if found is None:
        raise ReleaseError(
            "NQR-REL-002",
            "pyproject.toml of the checkout names no version.",
            "Start the installer from a complete, unchanged copy of the repository.",
        )
    return found.group(1)


def describe_checkout(host: Host, checkout: str) -> Release:
    """Describe the release that this checkout makes before the build, without artifacts. Reads only."""
    for needed in ("pyproject.toml", "src/nqrust", "guest-agent/Cargo.toml", "requirements/manager.txt"):
        if not host.exists(f"{checkout}/{needed}"):
            raise ReleaseError(
                "NQR-REL-001",
                f"{checkout} is not a complete source tree: {needed} is missing.",
                "Start the installer from a complete copy of the repository, or name one with --source.",
            )
    version = project_version(host.read_text(f"{checkout}/pyproject.toml"))
    return Release(
        form="bundled",
        version=f"{version}+{source_digest(host, checkout)[:12]}",
        components=COMPONENTS,
        images=IMAGES,
    )


def read_release(host: Host, directory: str) -> Release | None:
    """Return the descriptor in a release's folder, or None if there is none or its form is unknown."""
    path = f"{directory}/{DESCRIPTOR}"
    if not host.exists(path):
        return None
    try:
        return Release.model_validate(json.loads(host.read_text(path)))
    except ValueError:
        return None


def damaged(host: Host, directory: str, release: Release) -> list[str]:
    """Return artifacts of a release that are missing in its folder or have another size. Does not read contents."""
    wrong: list[str] = []
    for artifact in release.artifacts:
        found = host.stat(f"{directory}/{artifact.name}")
        if found is None or found.size != artifact.size:
            wrong.append(artifact.name)
    return wrong
