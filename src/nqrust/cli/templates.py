"""nqr template: list, show, create, rm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nqrust.cli import output
from nqrust.cli.connection import ManagerUrl, manager
from nqrust.cli.output import Output, Quiet
from nqrust.cli.vm import limits as vm_limits
from nqrust.cli.vm import options as opt
from nqrust.cli.vm.names import flag_of, not_a_name
from nqrust.contract.text import first_fault
from nqrust.installer.engine.errors import UsageError

if TYPE_CHECKING:
    from nqrust.contract.templates import Template

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the template.")]


def build(app: typer.Typer) -> typer.Typer:
    app.command("ls", help="List the templates.")(ls)
    app.command("show", help="Show the details of a template.")(show)
    app.command("create", help="Save VM options under a name.")(create)
    app.command("rm", help="Delete a template. Its VMs stay.")(rm)
    return app


def ls(out: Output = "text", quiet: Quiet = False, url: ManagerUrl = None) -> None:
    out = output.chosen(out, quiet)
    with manager(url) as client:
        found = client.all_templates()
    output.listing(
        found,
        out,
        ("name", "image", "vcpus", "memory", "disk", "tags", "description", "autostart", "restart", "changed"),
        [
            (
                t.name,
                t.image,
                t.vcpus,
                f"{t.memory_mib} MiB",
                _disk(t),
                t.tags,
                t.description,
                t.autostart,
                t.restart_policy,
                t.updated_at,
            )
            for t in found.items
        ],
        wide=3,
        empty="There is no template. Make one with: nqr template create small --image tiny",
    )


def show(name: Name, out: Output = "text", url: ManagerUrl = None) -> None:
    from nqrust.client import calls

    with manager(url) as client:
        found = client.send(calls.get_template(name))
    _print(found, out)


def create(
    image: Annotated[str, typer.Option("--image", metavar="IMAGE", help="Image to boot.")],
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Name of the template.")] = None,
    named: Annotated[str | None, typer.Option("--name", metavar="NAME", help="The same as the argument NAME.")] = None,
    description: Annotated[str | None, typer.Option("--description", metavar="TEXT", help="Description of the template.")] = None,
    vcpus: opt.Vcpus = None,
    memory: opt.Memory = None,
    disk: opt.Disk = None,
    ssh_key: opt.SshKeys = None,
    user: Annotated[
        str | None,
        typer.Option("--user", metavar="NAME", help="Account in the guest. Gets the --ssh-key instead of root."),
    ] = None,
    tag: opt.Tags = None,
    volume: Annotated[opt.Texts, typer.Option("--volume", metavar="SIZE[:keep]", help="New, empty volume. Repeatable.")] = None,
    net_rx: opt.NetRx = None,
    net_tx: opt.NetTx = None,
    disk_rate: opt.DiskRate = None,
    disk_iops: opt.DiskIops = None,
    network_config: opt.NetworkConfig = None,
    guest_exec: opt.GuestExec = None,
    autostart: opt.Autostart = None,
    restart_policy: opt.Restart = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an existing template with this name.")] = False,
    out: Output = "text",
    url: ManagerUrl = None,
) -> None:
    from pydantic import ValidationError

    from nqrust.client import calls
    from nqrust.client.errors import Refused
    from nqrust.contract.templates import TemplateCreate, TemplateSpec

    name = opt.one_name("template create", name, named)
    keys = opt.keys(ssh_key or [])
    if user and not keys:
        raise UsageError(
            "NQR-USE-003", f"--user {user} needs an SSH key to sign in.", "Add --ssh-key. Templates cannot hold passwords."
        )
    limits = opt.rates(net_rx, net_tx, disk_rate, disk_iops)
    given = {
        **opt.fields(
            vcpus=vcpus, memory=memory, disk=disk, tags=tag, volumes=volume, autostart=autostart, restart=restart_policy,
            limits=limits, network=network_config, guest_exec=guest_exec,
        ),
        "image": image, "description": description, "ssh_keys": None if user else keys or None,
        "users": [{"name": user, "ssh_keys": keys}] if user else None,
    }  # fmt: skip
    given = {field: value for field, value in given.items() if value is not None}
    try:
        asked, spec = TemplateCreate(name=name, **given), TemplateSpec(**given)
    except ValidationError as error:
        where, said = first_fault(error.errors())
        if where == "name":
            raise not_a_name("template", name) from error
        flag = flag_of(where.rpartition(".")[2] if where.startswith("rate_limits.") else where.partition(".")[0])
        raise UsageError("NQR-USE-003", f"{flag} is not valid: {said}.", "See: nqr template create --help") from error
    with manager(url) as client:
        try:
            made = client.send(calls.create_template(asked))
        except Refused as error:
            if not replace or error.status != 409:
                raise
            made = client.send(calls.replace_template(name, spec))
    _print(made, out)


def rm(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Names of the templates.")],
    out: Output = "text",
    url: ManagerUrl = None,
) -> None:
    from nqrust.client import calls

    with manager(url) as client, output.Done(out) as done:
        for name in names:
            client.send(calls.delete_template(name))
            done(name, f"deleted template {name}")


def _print(found: Template, out: str) -> None:
    output.details(found, out, [
        ("name", found.name), ("description", found.description), ("image", found.image), ("vcpus", found.vcpus),
        ("memory", f"{found.memory_mib} MiB"), ("disk", _disk(found)),
        ("volumes", [f"{v.size_mib} MiB{' (kept)' if v.keep else ''}" for v in found.volumes]),
        ("rate limits", vm_limits.told(found.rate_limits)), ("network config", found.network_config), ("commands", "allowed" if found.guest_exec else "off"), ("autostart", found.autostart), ("restart", found.restart_policy),
        ("tags", found.tags), ("users", [user.name for user in found.users]), ("ssh keys", len(found.ssh_keys) or None),
        ("created", found.created_at), ("changed", found.updated_at),
    ])  # fmt: skip


def _disk(found: Template) -> str:
    return f"{found.disk_mib} MiB" if found.disk_mib else "the image's"
