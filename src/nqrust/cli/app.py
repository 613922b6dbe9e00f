"""The tree of commands."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer

from nqrust.cli import manual
from nqrust.cli.completion import commands as completion_commands
from nqrust.cli.install import commands as run_commands
from nqrust.cli.install import fingerprint as fingerprint_commands
from nqrust.cli.install import state as state_commands
from nqrust.cli.support import commands as support_commands
from nqrust.cli.tree import Later, Root, built, new

_HELP = "NQRust-MicroVM: install, test, use and remove a microVM platform on this host."
_GROUPS = {
    "config": ("install.config", "Show and check settings."),
    "vm": ("vm.commands", "Manage VMs."),
    "template": ("templates", "Manage templates for VMs."),
    "volume": ("vm.volumes", "Manage kept volumes, and attach or detach volumes."),
    "image": ("images", "Manage the images that VMs boot from."),
    "dev": ("dev", "Work on the platform's sources."),
    "release": ("releases", "Build releases of the platform."),
    "host": ("hosts", "Manage hosts."),
    "network": ("network", "Show and confirm a change of this host's network."),
    "services": ("services", "Start, stop and show the services of this host."),
    "user": ("users", "Manage users."),
    "token": ("tokens", "Manage API tokens."),
    "event": ("events", "Read the events of VMs, hosts and images."),
    "audit": ("audit", "Read the audit log."),
    "bundle": ("bundles", "Build and check bundles, for hosts without a network."),
}
"""Name -> module with `build`, and help. The module is imported when one of its commands is needed."""


def command() -> Any:
    """Return the whole command line as one command object."""
    root = built(_root())
    for name, (module, help) in _GROUPS.items():
        root.add_command(Later(name, help, _builder(module)))
    return root


def _root() -> typer.Typer:
    app = new(_HELP, Root)
    run_commands.add_to(app)
    state_commands.add_to(app)
    fingerprint_commands.add_to(app)
    support_commands.add_to(app)
    completion_commands.add_to(app)
    manual.add_to(app)
    return app


def _builder(module: str) -> Any:
    return lambda app: import_module(f"nqrust.cli.{module}").build(app)
