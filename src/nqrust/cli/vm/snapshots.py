"""nqr vm snapshot: ls, create, restore, rm."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nqrust.cli import output, stopping
from nqrust.cli.connection import ManagerUrl, manager
from nqrust.cli.output import Output, Quiet
from nqrust.cli.tree import new
from nqrust.cli.vm import options as opt
from nqrust.contract.text import argument, plain
from nqrust.installer.engine.errors import UsageError

if TYPE_CHECKING:
    from nqrust.client.manager import ManagerClient
    from nqrust.contract.vms import Snapshot

Vm = Annotated[str, typer.Argument(metavar="VM", help="Name or id of the VM.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the snapshot.")]
Timeout = Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="Maximum wait in seconds.")]
_LOOK_EVERY = 0.5  # seconds


def build() -> typer.Typer:
    app = new("Manage the snapshots of a VM.")
    app.command("ls", help="List the snapshots of a VM.")(ls)
    app.command("create", help="Save the disks, and the memory if the VM is running.")(create)
    app.command("restore", help="Restore a stopped VM from a snapshot.")(restore)
    app.command("rm", help="Delete a snapshot.")(rm)
    return app


def ls(vm: Vm, out: Output = "text", quiet: Quiet = False, url: ManagerUrl = None) -> None:
    out = output.chosen(out, quiet)
    from nqrust.client import calls

    with manager(url) as client:
        found = client.send(calls.list_snapshots(vm))
    output.listing(
        found,
        out,
        ("name", "kind", "state", "size", "created", "error"),
        [(s.name, s.kind, s.state, f"{s.size >> 20} MiB", s.created_at, s.error) for s in found.items],
        empty=f"VM {vm} has no snapshot.",
    )


def create(vm: Vm, name: Name, timeout: Timeout = 600.0, out: Output = "text", url: ManagerUrl = None) -> None:
    from pydantic import ValidationError

    from nqrust.client import calls

    try:
        asked = calls.create_snapshot(vm, name)
    except ValidationError as error:
        raise UsageError(
            "NQR-USE-003",
            f"A snapshot cannot be named “{plain(name)}”.",
            "Use at most 63 lower-case letters, digits and dashes. Begin with a letter or a digit.",
        ) from error
    with manager(url) as client:
        client.send(asked)
        made = _settled(client, vm, name, timeout)
    if made is not None:
        output.details(made, out, [("name", made.name), ("kind", made.kind), ("state", made.state), ("error", made.error)])
    if made is None:
        output.say(f"snapshot {name} is gone", err=True)
    if made is None or made.state != "ready":
        raise typer.Exit(1)


def restore(
    vm: Vm, name: Name, wait: opt.Wait = True, timeout: opt.Timeout = 120.0, out: Output = "text", url: ManagerUrl = None
) -> None:
    from nqrust.client import calls

    with manager(url) as client:
        saved = {one.name: one.kind for one in client.send(calls.list_snapshots(vm)).items}
        found = client.send(calls.restore_snapshot(vm, name))
        if wait:
            until: Literal["running", "stopped"] = "running" if saved.get(name) == "full" else "stopped"
            with stopping.told(f"The manager continues to restore VM {found.name}.", f"nqr vm show {argument(found.name)}"):
                found = client.wait_for(found.id, until, timeout, since=found.generation) or found
    output.details(found, out, [("id", found.id), ("name", found.name), ("state", found.state)])


def rm(vm: Vm, name: Name, timeout: Timeout = 120.0, out: Output = "text", url: ManagerUrl = None) -> None:
    from nqrust.client import calls

    with manager(url) as client:
        client.send(calls.delete_snapshot(vm, name))
        left = _settled(client, vm, name, timeout)
    if left is not None:
        reason = f": {left.error}" if left.error else ""
        output.say(f"snapshot {name} is not deleted, its state is {left.state}{reason}", err=True)
        raise typer.Exit(1)
    with output.Done(out) as done:
        done(name, f"deleted snapshot {name} of {vm}")


def _settled(client: ManagerClient, vm: str, name: str, timeout: float) -> Snapshot | None:
    """Wait until no operation uses the snapshot and return it. After `timeout` return it in its current state; None if it is
    gone."""
    from nqrust.client import calls

    deadline = time.monotonic() + timeout
    while True:
        found = next((one for one in client.send(calls.list_snapshots(vm)).items if one.name == name), None)
        if found is None or found.state in ("ready", "failed") or time.monotonic() > deadline:
            return found
        time.sleep(_LOOK_EVERY)
