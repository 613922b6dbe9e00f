"""The tree of commands."""

from __future__ import annotations

from typing import Any

import typer
from typer.main import get_command

from nqrust.cli import audit as audit_commands
from nqrust.cli import hosts as host_commands
from nqrust.cli import images as image_commands
from nqrust.cli import network as network_commands
from nqrust.cli import services as service_commands
from nqrust.cli import templates as template_commands
from nqrust.cli import tokens as token_commands
from nqrust.cli import users as user_commands
from nqrust.cli.install import commands as run_commands
from nqrust.cli.install import config as config_commands
from nqrust.cli.install import fingerprint as fingerprint_commands
from nqrust.cli.install import state as state_commands
from nqrust.cli.support import commands as support_commands
from nqrust.cli.vm import commands as vm_commands
from nqrust.cli.vm import volumes as volume_commands

_HELP = "NQRust-MicroVM: install, test, use and remove a microVM platform on this host."
_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def command() -> Any:
    """Return the whole command line as one command object."""
    return get_command(build())


def build() -> typer.Typer:
    app = _typer(_HELP)
    run_commands.add_to(app)
    state_commands.add_to(app)
    fingerprint_commands.add_to(app)
    app.add_typer(
        config_commands.build(_typer("Show and check settings.")),
        name="config",
    )
    app.add_typer(vm_commands.build(_typer("Manage VMs.")), name="vm")
    app.add_typer(template_commands.build(_typer("Manage templates for VMs.")), name="template")
    app.add_typer(volume_commands.build(_typer("Manage kept volumes, and attach or detach volumes.")), name="volume")
    app.add_typer(image_commands.build(_typer("Manage the images that VMs boot from.")), name="image")
    app.add_typer(host_commands.build(_typer("Manage hosts.")), name="host")
    app.add_typer(network_commands.build(_typer("Show and confirm a change of this host's network.")), name="network")
    app.add_typer(service_commands.build(_typer("Start, stop and show the services of this host.")), name="services")
    app.add_typer(user_commands.build(_typer("Manage users.")), name="user")
    app.add_typer(token_commands.build(_typer("Manage API tokens.")), name="token")
    app.add_typer(audit_commands.build(_typer("Read the audit log.")), name="audit")
    support_commands.add_to(app)
    return app


def _typer(help: str) -> typer.Typer:
    return typer.Typer(
        help=help,
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        suggest_commands=False,
        context_settings=_CONTEXT,
    )
