"""logs and support-bundle."""

from __future__ import annotations

import os
import shlex
from typing import Annotated

import typer

from nqrust.cli.failures import choice, require_root
from nqrust.contract.names import UNITS
from nqrust.contract.text import plain
from nqrust.installer.engine.errors import UsageError

_FOREVER = 10 * 365 * 86400.0


def add_to(app: typer.Typer) -> None:
    app.command(help="Show the logs of a service, or of the last run (install).")(logs)
    app.command("support-bundle", help="Collect settings, status and logs in one file. Masks all secrets.")(support_bundle)


def logs(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help=f"{', '.join(UNITS)}, install, or all.")] = "all",
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Follow new lines.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", metavar="N", min=1, help="Number of lines.")] = 100,
) -> None:
    from nqrust.cli import suggestions

    services = (*UNITS, "install", "all")
    if service not in services and not suggestions.near(service, services):
        raise UsageError(
            "NQR-USE-070",
            f"There is no service {plain(service)}. The services are {', '.join(services)}.",
            f"For the output of a VM: nqr vm logs {plain(shlex.quote(service))}",
        )
    choice("SERVICE", service, services)
    require_root("logs")
    from nqrust.contract.paths import INSTALL_LOG_DIR, LOG_DIR
    from nqrust.host.local import LocalHost
    from nqrust.host.port import command

    host = LocalHost()
    if service == "install":
        found = host.glob(f"{INSTALL_LOG_DIR}/*.log")[-1:]
    elif os.path.isdir("/run/systemd/system"):
        units = UNITS.values() if service == "all" else [UNITS[service]]
        argv = ["journalctl", "--no-pager", "-n", str(lines), *(f"--unit={unit}" for unit in units)]
        host.run(command(*argv, *(["-f"] if follow else []), timeout=_FOREVER), on_line=typer.echo)
        return
    else:
        name = "*" if service == "all" else f"*{service}*"
        found = host.glob(f"{LOG_DIR}/{name}.log")
    if not found:
        raise UsageError(
            "NQR-USE-012",
            f"This host has no log of {service}.",
            "See what is installed with: nqr status",
        )
    argv = ["tail", "-n", str(lines), *(["-F"] if follow else []), *found]
    host.run(command(*argv, timeout=_FOREVER), on_line=typer.echo)


def support_bundle(
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FILE", help="Output file (default: in the current folder).")
    ] = None,
) -> None:
    require_root("support-bundle")
    from nqrust.cli.support.bundle import write
    from nqrust.host.local import LocalHost

    path = os.path.abspath(output) if output else ""
    written = write(LocalHost(), path)
    typer.echo(f"written to {written} (mode 0600). Secrets are masked; look through it before you send it.")
