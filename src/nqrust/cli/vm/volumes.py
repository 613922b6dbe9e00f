"""nqr volume: ls, attach, detach, rm. Volumes of existing VMs, and volumes that outlive their VM."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from nqrust.cli import output
from nqrust.cli.connection import ManagerUrl, manager
from nqrust.cli.output import Output, Quiet
from nqrust.cli.vm import options as opt
from nqrust.contract.text import fault
from nqrust.installer.engine.errors import UsageError

if TYPE_CHECKING:
    from nqrust.contract.vms import Vm, Volume, VolumeCreate

OfVm = Annotated[str, typer.Argument(metavar="VM", help="Name or id of a stopped VM.")]


def build(app: typer.Typer) -> typer.Typer:
    app.command("ls", help="List the kept volumes with their hosts and VMs.")(ls)
    app.command("attach", help="Attach a new or kept volume to a stopped VM.")(attach)
    app.command("detach", help="Detach a volume from a stopped VM. Other volumes keep their names.")(detach)
    app.command("rm", help="Delete kept volumes and their data.")(rm)
    return app


def ls(
    host: Annotated[str | None, typer.Option("--host", metavar="NAME", help="Only on this host.")] = None,
    out: Output = "text",
    quiet: Quiet = False,
    url: ManagerUrl = None,
) -> None:
    out = output.chosen(out, quiet)
    from nqrust.client import calls

    with manager(url) as client:
        found = client.send(calls.list_volumes(host))
    output.listing(
        found,
        out,
        ("name", "size", "host", "vm", "since"),
        [(v.name, f"{v.size_mib} MiB", v.host, v.vm, v.created_at) for v in found.items],
        empty="There are no kept volumes. To keep a VM's volume: nqr vm create --volume 2G:keep ...",
    )


def rm(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Full names of the volumes.")],
    out: Output = "text",
    url: ManagerUrl = None,
) -> None:
    from nqrust.client import calls

    with manager(url) as client, output.Done(out) as done:
        for name in names:
            client.send(calls.delete_volume(name))
            done(name, f"deleted volume {name}")


def attach(
    vm: OfVm,
    size: Annotated[
        str | None, typer.Option("--size", metavar="SIZE", help="Size of a new, empty volume in MiB, or as 512M or 2G.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the volume after a detach or the deletion of its VM.")] = False,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Name of a kept volume, or the start of it.")] = None,
    wait: opt.Wait = True,
    timeout: opt.Timeout = 180.0,
    out: Output = "text",
    url: ManagerUrl = None,
) -> None:
    from nqrust.client import calls

    wanted = _wanted(size, keep, name)
    with manager(url) as client:
        found = client.send(calls.attach_volume(vm, wanted))
        coming = next((volume.device for volume in found.volumes if volume.change == "attaching"), None)
        if wait and coming:
            found = client.wait_for(found.id, _has(coming), timeout=timeout) or found
    _print(found, out)


def detach(
    vm: OfVm,
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="Name of the volume in the guest, such as vdb.")],
    keep: Annotated[bool, typer.Option("--keep", help="Keep the volume on its host.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the volume and its data.")] = False,
    wait: opt.Wait = True,
    timeout: opt.Timeout = 180.0,
    out: Output = "text",
    url: ManagerUrl = None,
) -> None:
    """Detach a volume. A kept volume stays without --keep."""
    from nqrust.client import calls

    if keep and delete:
        raise UsageError("NQR-USE-003", "--keep and --delete exclude each other.", "Give one of them.")
    with manager(url) as client:
        found = client.send(calls.detach_volume(vm, device, "keep" if keep else "delete" if delete else None))
        going = next((volume for volume in found.volumes if volume.device == device), None)
        if wait and going:
            found = client.wait_for(found.id, _has_not(device), timeout=timeout) or found
    _print(found, out, going.kept_name(found.name, found.id) if going and going.data == "keep" else None)


def told(volumes: list[Volume]) -> list[str]:
    """Return the volumes for people."""
    said = []
    for volume in volumes:
        notes = [*(["kept"] if volume.keep else []), *([volume.change] if volume.change else [])]
        said.append(f"{volume.device} {volume.size_mib} MiB" + (f" ({', '.join(notes)})" if notes else ""))
    return said


def _print(found: Vm, out: str, kept_as: str | None = None) -> None:
    output.details(found, out, [("name", found.name), ("volumes", told(found.volumes) or "none"), ("kept as", kept_as)])


def _wanted(size: str | None, keep: bool, name: str | None) -> VolumeCreate:
    from pydantic import ValidationError

    from nqrust.contract.vms import VolumeCreate

    if (size is None) == (name is None):
        raise UsageError("NQR-USE-003", "A volume needs --size (new and empty) or --name (kept).", "Give one of them: --size 2G.")
    try:
        return VolumeCreate.model_validate(
            {"name": name} if name is not None else {"size_mib": output.mebibytes("--size", size), "keep": keep}
        )
    except ValidationError as error:
        first = error.errors()[0]
        flag = "--size" if name is None else "--name"
        raise UsageError(
            "NQR-USE-003", f"{flag} is not valid: {fault(first['msg'])}.", "See: nqr volume attach --help"
        ) from error


def _has(device: str) -> Callable[[Vm], bool]:
    """Return a check that the VM has the volume. The check raises WaitFailed if attaching fails."""
    from nqrust.client.errors import WaitFailed

    def reached(vm: Vm) -> bool:
        found = next((volume for volume in vm.volumes if volume.device == device), None)
        if found is None or found.change in ("withdrawing", "detaching"):
            raise WaitFailed(f"VM {vm.name} did not get its volume {device}: {vm.error or 'no reason given'}")
        return found.change is None

    return reached


def _has_not(device: str) -> Callable[[Vm], bool]:
    """Return a check that the volume is gone. The check raises WaitFailed if detaching fails."""
    from nqrust.client.errors import WaitFailed

    def reached(vm: Vm) -> bool:
        found = next((volume for volume in vm.volumes if volume.device == device), None)
        if found is not None and found.change is None:
            raise WaitFailed(f"Volume {device} stays with VM {vm.name}: {vm.error or 'no reason given'}")
        return found is None

    return reached
