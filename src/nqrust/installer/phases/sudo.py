"""Phase 8: exactly the root privileges that the release declares for its services."""

from __future__ import annotations

import re

from nqrust.contract import names
from nqrust.installer.context import Context
from nqrust.installer.engine.plan import PhasePlan
from nqrust.installer.engine.step import Step
from nqrust.installer.platform.sudoers import Sudoers
from nqrust.installer.release.descriptor import Privilege
from nqrust.installer.verbs.file.directory import Directory

SUDOERS_DIR = "/etc/sudoers.d"
SUDOERS_FILE = f"{SUDOERS_DIR}/nqrust"
_SPECIAL = str.maketrans({c: f"\\{c}" for c in "\\,:="})


def sudoers(context: Context, privileges: tuple[Privilege, ...]) -> str:
    """Return a sudoers(5) file: one line per command. Its arguments are exact, or bound by an expression."""
    layout = context.layout
    places = {"vms": layout.vms_dir, "images": layout.image_dir, "bin": layout.bin_dir}
    lines = ["# Written by nqr from the privileges that the release declares."]
    for privilege in privileges:
        words = [w.format(libexec=layout.libexec_dir, bin=layout.bin_dir) for w in privilege.argv]
        lines.append(f"# {privilege.component}: {privilege.why}")
        arguments = [w.translate(_SPECIAL) for w in words[1:]]
        if privilege.arguments is not None:  # an expression, which sudo reads without escapes
            arguments = [privilege.arguments.format(**{name: re.escape(path) for name, path in places.items()})]
        spec = " ".join([words[0], *arguments])
        lines.append(f"{names.SERVICE_USER} ALL=(root) NOPASSWD: {spec}")
    return "\n".join(lines) + "\n"


def wanted(context: Context) -> tuple[Privilege, ...]:
    """Return the privileges of components that run here as the service user; root needs none."""
    settings = context.settings
    here = {"manager": settings.has_manager, "agent": settings.has_agent}
    return tuple(p for p in context.release.privileges if p.user == "service" and here[p.component])


def may_become_root(context: Context, component: str) -> bool:
    """Return whether this component's service needs sudo."""
    return any(privilege.component == component for privilege in wanted(context))


def plan(context: Context) -> PhasePlan:
    privileges = wanted(context)
    if not privileges:
        return PhasePlan("sudo", "Privileges", skipped="no service of this host needs any")
    steps: tuple[Step, ...] = (
        Directory(SUDOERS_DIR, mode=0o750),
        Sudoers(SUDOERS_FILE, sudoers(context, privileges)),
    )
    return PhasePlan("sudo", "Privileges", steps)
