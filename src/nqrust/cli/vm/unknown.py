"""nqr vm adopt, nqr vm ls --unknown, nqr vm rm --unknown: VMs on a host without a record in the manager."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nqrust.cli import output
from nqrust.cli.connection import ManagerUrl, manager
from nqrust.cli.output import Output

if TYPE_CHECKING:
    from nqrust.client.manager import ManagerClient

ListUnknown = Annotated[bool, typer.Option("--unknown", help="List VMs without a record that run on a host.", show_default=False)]
DeleteUnknown = Annotated[
    bool, typer.Option("--unknown", help="Delete VMs that `nqr vm ls --unknown` lists.", show_default=False)
]


def ls(client: ManagerClient, out: str) -> None:
    from nqrust.client import calls

    found = client.send(calls.list_unknown_vms())
    output.listing(
        found,
        out,
        ("name", "state", "ip", "host", "image", "since", "id"),
        [(v.name, v.state, v.ip, v.host, v.image, v.first_seen_at, v.id) for v in found.items],
        empty="There is no unknown VM.",
    )


def adopt(
    vm: Annotated[str, typer.Argument(metavar="ID", help="Id or name of an unknown VM (see `nqr vm ls --unknown`).")],
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="New name (default: the current name).")] = None,
    out: Output = "text",
    url: ManagerUrl = None,
) -> None:
    from nqrust.cli.vm.names import checked_name
    from nqrust.client import calls

    if name is not None:
        checked_name(name)
    with manager(url) as client:
        found = client.send(calls.adopt_vm(vm, name))
    output.details(
        found, out, [("id", found.id), ("name", found.name), ("state", found.state), ("ip", found.ip), ("host", found.host)]
    )


def rm(client: ManagerClient, refs: list[str], done: output.Done) -> None:
    from nqrust.client import calls

    for ref in refs:
        client.send(calls.delete_unknown_vm(ref))
        done(ref, f"deleted {ref}")
