"""nqr volume: list, rm. Volumes that are kept when their VM is deleted."""

from __future__ import annotations

from typing import Annotated

import typer

from nqrust.installer.cli import output
from nqrust.installer.cli.connection import ManagerUrl, manager
from nqrust.installer.cli.output import Output


def build(app: typer.Typer) -> typer.Typer:
    app.command("ls", help="List the kept volumes, and who has them.")(ls)
    app.command("rm", help="Delete kept volumes with what is in them.")(rm)
    return app


def ls(
    host: Annotated[str | None, typer.Option("--host", metavar="NAME", help="Only of this host.")] = None,
    out: Output = "text",
    url: ManagerUrl = None,
) -> None:
    with manager(url) as client:
        found = client.list_volumes(host)
    if out == "json":
        output.document(found)
        return
    output.table(
        ("name", "size", "host", "vm", "since"),
        [(v.name, f"{v.size_mib} MiB", v.host, v.vm, v.created_at) for v in found.items],
        empty="There is no kept volume. A VM's volume is kept with: nqr vm create --volume 2G:keep ...",
    )


def rm(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Whole names.")], url: ManagerUrl = None
) -> None:
    with manager(url) as client:
        for name in names:
            client.delete_volume(name)
            typer.echo(f"deleted volume {name}")
