"""nqr host: list, show, token, cordon, uncordon, drain, rm."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from nqrust.cli import output
from nqrust.cli.connection import ManagerUrl, manager, reached_from_elsewhere
from nqrust.cli.output import Document, Output, Quiet
from nqrust.contract.text import argument, fault
from nqrust.installer.engine.errors import UsageError

if TYPE_CHECKING:
    from nqrust.contract.hosts import Host

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name or id of the host.")]


def build(app: typer.Typer) -> typer.Typer:
    app.command("ls", help="List the hosts.")(ls)
    app.command("show", help="Show the details of a host.")(show)
    app.command("token", help="Create a token that lets the agent of a new host join.")(token)
    app.command("cordon", help="Stop placing new VMs on a host.")(cordon)
    app.command("uncordon", help="Place VMs on a host again, and start the VMs that its drain stopped.")(uncordon)
    app.command("drain", help="Cordon a host and stop its VMs.")(drain)
    app.command("rm", help="Remove a host from the platform.")(rm)
    return app


def ls(out: Output = "text", quiet: Quiet = False, url: ManagerUrl = None) -> None:
    out = output.chosen(out, quiet)
    from nqrust.client import calls

    with manager(url) as client:
        found = client.send(calls.list_hosts())
    output.listing(
        found,
        out,
        ("name", "state", "vms", "vmm", "cpus", "memory", "version", "url", "bridge", "network", "last seen", "id"),
        [
            (
                h.name,
                _state(h),
                h.vms,
                f"{h.vmm}/{h.accel}",
                h.capacity.cpus,
                _memory(h),
                h.version,
                h.url,
                h.network.bridge,
                h.network.cidr,
                h.last_seen_at,
                h.id,
            )
            for h in found.items
        ],
        wide=4,
        empty="There is no host. An agent joins with a token of: nqr host token NAME",
    )


def show(name: Name, out: Output = "text", url: ManagerUrl = None) -> None:
    from nqrust.client import calls

    with manager(url) as client:
        found = client.send(calls.get_host(name))
    _print(found, out)


def token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new host (its --agent-name, or its hostname).")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Let it take over the name and the VMs of an existing host that is offline.")
    ] = False,
    ttl: Annotated[
        int, typer.Option("--ttl", metavar="SECONDS", min=60, max=7 * 86400, help="Lifetime of the token in seconds.")
    ] = 3600,
    out: Document = "text",
    url: ManagerUrl = None,
) -> None:
    from pydantic import ValidationError

    from nqrust.client import calls

    try:
        call = calls.join_token(name, ttl, replace)
    except ValidationError as error:
        raise UsageError(
            "NQR-USE-003", f"NAME cannot be “{name}”: {fault(error.errors()[0]['msg'])}.", "Pass the host's name."
        ) from error
    with manager(url) as client:
        made = client.send(call)
    if out != "text":
        output.document(made, out)
        return
    base = reached_from_elsewhere(url)
    if "." in made.token:  # it names the authority, so the manager answers TLS
        base = base.replace("http://", "https://", 1)
    output.say(f"The agent of host {name} can join once with this token, until {output.cell(made.expires_at)}.", err=True)
    install = f"./scripts/install/install.sh --mode agent --agent-name {argument(name)} --manager-url {argument(base)}"
    if sys.stdout.isatty():
        # `echo` is part of the shell, so the token is on no command line that other users can see.
        typer.echo("Paste this line as root on that host, in a copy of this source tree:", err=True)
        typer.echo(f"(umask 077; echo {argument(made.token)} >join-token); {install} --join-token-file join-token")
        return
    # Only the token goes to a file, so that `nqr host token NAME > FILE` creates the file for --join-token-file.
    typer.echo(made.token)
    typer.echo(f"Copy it to a file there, and run as root: {install} --join-token-file FILE", err=True)


def cordon(name: Name, out: Output = "text", url: ManagerUrl = None) -> None:
    from nqrust.client import calls

    with manager(url) as client:
        found = client.send(calls.cordon_host(name))
    _print(found, out)


def uncordon(name: Name, out: Output = "text", url: ManagerUrl = None) -> None:
    from nqrust.client import calls

    with manager(url) as client:
        found = client.send(calls.uncordon_host(name))
    _print(found, out)


def drain(name: Name, out: Output = "text", url: ManagerUrl = None) -> None:
    from nqrust.client import calls

    with manager(url) as client:
        found = client.send(calls.drain_host(name))
    _print(found, out)


def rm(
    name: Name,
    force: Annotated[bool, typer.Option("-f", "--force", help="Remove the host even if it has VMs.")] = False,
    out: Output = "text",
    url: ManagerUrl = None,
) -> None:
    from nqrust.client import calls

    with manager(url) as client, output.Done(out) as done:
        client.send(calls.delete_host(name, force=force))
        done(name, f"removed {name}")


def _print(found: Host, out: str) -> None:
    output.details(
        found,
        out,
        [
            ("id", found.id),
            ("name", found.name),
            ("state", _state(found)),
            *([("conflict", found.conflict)] if found.conflict else []),
            ("url", found.url),
            ("version", found.version),
            ("VMM", f"{found.vmm} ({found.accel})"),
            ("VMs", found.vms),
            ("unknown VMs", [f"{vm.name or '?'} ({vm.id}, {vm.state})" for vm in found.unknown_vms]),
            ("CPUs", found.capacity.cpus),
            ("memory", _memory(found)),
            ("bridge", found.network.bridge),
            ("VM network", found.network.cidr),
            ("boot id", found.boot_id),
            ("last seen", found.last_seen_at),
            ("created", found.created_at),
        ],
    )


def _state(host: Host) -> str:
    state = "conflict" if host.conflict else host.state.value
    return f"{state}, cordoned" if host.cordoned else state


def _memory(host: Host) -> str:
    return f"{host.capacity.memory_mib} MiB"
