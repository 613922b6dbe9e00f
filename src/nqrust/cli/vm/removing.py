"""nqr vm rm: says what goes, and asks for --force where a VM still works or has snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nqrust.cli import output, stopping
from nqrust.cli.connection import ManagerUrl, manager
from nqrust.cli.output import Output
from nqrust.cli.vm import options as opt
from nqrust.cli.vm import unknown as vm_unknown
from nqrust.contract.text import argument
from nqrust.installer.engine.errors import UsageError

if TYPE_CHECKING:
    from nqrust.client.manager import ManagerClient
    from nqrust.contract.vms import Vm

_AT_REST = ("stopped", "failed", "deleting")
"""States of a VM that can go without a word."""


def rm(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Names or ids of the VMs.")],
    force: Annotated[
        bool,
        typer.Option("-f", "--force", help="Delete a VM that runs, that has snapshots, or whose host is offline."),
    ] = False,
    unknown: vm_unknown.DeleteUnknown = False,
    wait: opt.Wait = True,
    timeout: opt.Timeout = 120.0,
    out: Output = "text",
    url: ManagerUrl = None,
) -> None:
    from nqrust.client import calls

    with manager(url) as client, output.Done(out) as done:
        if unknown:
            vm_unknown.rm(client, names, done)
            return
        going = [client.send(calls.get_vm(name)) for name in names]
        if not force:
            _refuse(client, going)
        for vm in going:
            client.send(calls.delete_vm(vm.id, force=force))
            with stopping.told(f"The manager still deletes VM {vm.name}.", "nqr vm ls"):
                if wait:
                    client.wait_for(vm.id, "deleted", timeout=timeout)
            done(vm.name, f"{'deleted' if wait else 'deleting'} {vm.name} ({vm.id})", id=vm.id)


def _refuse(client: ManagerClient, going: list[Vm]) -> None:
    """Raise UsageError NQR-USE-019 before the first delete if one of the VMs needs --force."""
    from nqrust.client import calls

    for vm in going:
        snapshots = [one.name for one in client.send(calls.list_snapshots(vm.id)).items]
        reasons = [f"is {vm.state.value}"] if vm.state.value not in _AT_REST else []
        reasons += [f"has {_count(len(snapshots), 'snapshot')} ({', '.join(snapshots)})"] if snapshots else []
        if not reasons:
            continue
        kept = [volume for volume in vm.volumes if volume.keep]
        goes = [
            f"its disk of {vm.disk_mib} MiB",
            *([_count(len(snapshots), "snapshot")] if snapshots else []),
            *([_count(len(vm.volumes) - len(kept), "volume")] if len(vm.volumes) > len(kept) else []),
        ]
        stays = f" {_count(len(kept), 'kept volume').capitalize()} stays." if len(kept) == 1 else ""
        stays = f" {_count(len(kept), 'kept volume').capitalize()} stay." if len(kept) > 1 else stays
        raise UsageError(
            "NQR-USE-019",
            f"VM {vm.name} {_all_of(reasons)}. nqr deleted nothing.",
            f"`nqr vm rm --force {argument(vm.name)}` deletes it with {_all_of(goes)}.{stays}",
        )


def _all_of(parts: list[str]) -> str:
    return " and ".join([*([", ".join(parts[:-1])] if parts[1:] else []), parts[-1]])


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
