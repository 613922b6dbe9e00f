"""`nqr vm limit`: the network and disk rates of a VM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nqrust.cli import output
from nqrust.cli.connection import ManagerUrl, manager
from nqrust.cli.output import Output
from nqrust.cli.vm import options as opt
from nqrust.cli.vm.names import flag_of
from nqrust.cli.vm.settling import settled
from nqrust.contract.text import fault
from nqrust.installer.engine.errors import UsageError

if TYPE_CHECKING:
    from nqrust.contract.vms import RateLimits


def limit(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name or id of the VM.")],
    net_rx: opt.NetRx = None,
    net_tx: opt.NetTx = None,
    disk_rate: opt.DiskRate = None,
    disk_iops: opt.DiskIops = None,
    none: Annotated[bool, typer.Option("--none", help="Remove all limits.")] = False,
    out: Output = "text",
    url: ManagerUrl = None,
) -> None:
    """Replace all limits of the VM; without options, show them."""
    from pydantic import ValidationError

    from nqrust.client import calls
    from nqrust.contract.vms import RateLimits

    wanted = opt.rates(net_rx, net_tx, disk_rate, disk_iops)
    if wanted and none:
        raise UsageError("NQR-USE-003", "--none cannot be combined with limits.", "Remove --none, or give --none alone.")
    try:
        limits = RateLimits(**wanted or {})
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            "NQR-USE-003", f"{flag_of(str(first['loc'][0]))} is not valid: {fault(first['msg'])}.", "See: nqr vm limit --help"
        ) from error
    with manager(url) as client:
        found = client.send(calls.set_rate_limits(name, limits)) if wanted or none else client.send(calls.get_vm(name))
        if wanted or none:
            found = settled(client, found, "rate_limits", "limits")
    output.details(found, out, [("name", found.name), ("rate limits", told(found.rate_limits) or "none")])


def told(limits: RateLimits) -> str:
    """Return the limits for people; empty without limits."""
    parts = (
        (limits.net_rx_kbit, "kbit/s to the guest"), (limits.net_tx_kbit, "kbit/s from it"),
        (limits.disk_kib, "KiB/s a disk"), (limits.disk_iops, "operations/s a disk"),
    )  # fmt: skip
    return ", ".join(f"{value} {unit}" for value, unit in parts if value is not None)
