"""logs and support-bundle."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from nqrust.cli import outlet
from nqrust.cli.failures import require_root
from nqrust.contract.names import UNITS
from nqrust.contract.text import plain
from nqrust.installer.engine.errors import NqrError, UsageError

if TYPE_CHECKING:
    from nqrust.host.port import Command, Host

_FOREVER = 10 * 365 * 86400.0
_LINES = 100
_SERVICES = (*UNITS, "install", "all")


def add_to(app: typer.Typer) -> None:
    app.command(help="Show the logs of a service, of the last run (install), or of a VM.")(logs)
    app.command("support-bundle", help="Collect settings, status and logs in one file. Masks all secrets.")(support_bundle)


def logs(
    service: Annotated[
        str, typer.Argument(metavar="NAME", help=f"Name of a VM, or of a service: {', '.join(_SERVICES)}.")
    ] = "all",
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Follow new lines.")] = False,
    lines: Annotated[
        int | None,
        typer.Option("-n", "--tail", "--lines", metavar="N", min=1, help=f"Number of lines (default: {_LINES}; of a VM, all)."),
    ] = None,
) -> None:
    if service not in _SERVICES:
        _of_vm(service, follow, lines)
        return
    require_root("logs")
    from nqrust.contract.paths import INSTALL_LOG_DIR, LOG_DIR
    from nqrust.host.local import LocalHost
    from nqrust.host.port import command

    host, count = LocalHost(), str(lines or _LINES)
    if service == "install":
        found = host.glob(f"{INSTALL_LOG_DIR}/*.log")[-1:]
    elif os.path.isdir("/run/systemd/system"):
        units = UNITS.values() if service == "all" else [UNITS[service]]
        argv = ["journalctl", "--no-pager", "-n", count, *(f"--unit={unit}" for unit in units)]
        _show(host, command(*argv, *(["-f"] if follow else []), timeout=_FOREVER))
        return
    else:
        found = host.glob(f"{LOG_DIR}/{'*' if service == 'all' else f'*{service}*'}.log")
    if not found:
        raise UsageError(
            "NQR-USE-012",
            f"This host has no log of {service}.",
            "See what is installed with: nqr status",
        )
    argv = ["tail", "-n", count, *(["-F"] if follow else []), *found]
    _show(host, command(*argv, timeout=_FOREVER))


def _show(host: Host, program: Command) -> None:
    with outlet.follows():
        host.run(program, on_line=typer.echo)


def _of_vm(name: str, follow: bool, lines: int | None) -> None:
    """Print the output of a VM. Raises NqrError NQR-USE-070 if there is none and the word is like a service."""
    from nqrust.cli import suggestions
    from nqrust.cli.vm import logs as of_vm

    try:
        of_vm.logs(name, follow, lines)
    except NqrError as error:
        near = suggestions.near(name, _SERVICES)
        if not near and error.code != "NQR-API-103":
            raise
        raise NqrError(
            "NQR-USE-070",
            f"There is no service and no VM {plain(name)}. The services are {', '.join(_SERVICES)}.",
            near or "The VMs are in the list of: nqr vm ls",
        ) from error


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
