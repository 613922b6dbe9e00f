"""What hangs on a VM: port forwards and rate limits, which can be changed while it runs, and volumes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui import ui

from nqrust.client.manager import AsyncManagerClient
from nqrust.contract.api.vms import PortForward, RateLimits, Vm, Volume
from nqrust.ui import format as fmt
from nqrust.ui import parts
from nqrust.ui.fields import Rates, Repeated, forward_row
from nqrust.ui.forms import FormDialog

Change = Callable[[Vm], Awaitable[None]]


class ForwardsCard:
    """The port forwards. `change` opens the form that changes them; None for those who may not."""

    def __init__(self, change: Change | None) -> None:
        self._vm: Vm | None = None
        self._shown: list[PortForward] | None = None
        with parts.box("card").props('role="region" aria-label="Port forwards"'):
            _title("Port forwards", change, lambda: self._vm)
            self._place = parts.box("list")

    def show(self, vm: Vm) -> None:
        self._vm = vm
        if vm.forwards == self._shown:
            return
        self._shown = vm.forwards
        self._place.clear()
        with self._place:
            for forward in vm.forwards:
                with parts.box("line"):
                    parts.text(f"{vm.host or 'host'}:{forward.host_port}", "mono grow break", tag="span")
                    ui.icon("arrow_forward").props('aria-label="leads to"')
                    parts.text(f"{forward.guest_port}/{forward.protocol}", "mono nowrap", tag="span")
            if not vm.forwards:
                parts.text("None. A forward makes a port of the host lead to one of the VM.", "muted", tag="p")


class VolumesCard:
    """The disks beside the VM's own."""

    def __init__(self) -> None:
        self._shown: list[Volume] | None = None
        with parts.box("card").props('role="region" aria-label="Volumes"'):
            parts.text("Volumes", tag="h2")
            self._place = parts.box("list")

    def show(self, vm: Vm) -> None:
        if vm.volumes == self._shown:
            return
        self._shown = vm.volumes
        self._place.clear()
        with self._place:
            for volume in vm.volumes:
                with parts.box("line"):
                    parts.text(volume.device, "mono grow", tag="span")
                    parts.text(fmt.mib(volume.size_mib), "nowrap", tag="span")
                    parts.text("kept" if volume.keep else "goes with the VM", "tag", tag="span")
            if not vm.volumes:
                parts.text("None. Volumes are added when a VM is created.", "muted", tag="p")


def describe_rates(limits: RateLimits) -> list[tuple[str, str]]:
    """Names and values; a value for each kind, limited or not."""
    def said(value: float | None, factor: float, unit: str) -> str:
        return f"{value / factor:g} {unit}" if value is not None else "not limited"

    return [
        ("Network to it", said(limits.net_rx_kbit, 1000, "Mbit/s")),
        ("Network from it", said(limits.net_tx_kbit, 1000, "Mbit/s")),
        ("Each disk", said(limits.disk_kib, 1024, "MiB/s")),
        ("Operations", said(limits.disk_iops, 1, "per second")),
    ]


class RatesCard:
    """The rate limits. `change` opens the form that changes them; None for those who may not."""

    def __init__(self, change: Change | None) -> None:
        self._vm: Vm | None = None
        with parts.box("card").props('role="region" aria-label="Rate limits"'):
            _title("Rate limits", change, lambda: self._vm)
            self._values = parts.facts(describe_rates(RateLimits()))

    def show(self, vm: Vm) -> None:
        self._vm = vm
        for name, value in describe_rates(vm.rate_limits):
            self._values[name].say(value)


def _title(title: str, change: Change | None, vm: Callable[[], Vm | None]) -> None:
    async def clicked() -> None:
        shown = vm()
        if change is not None and shown is not None:
            await change(shown)

    with parts.box("row-between center"):
        parts.text(title, tag="h2")
        if change is not None:
            parts.quiet("Change", clicked).classes("small-button").props(f'aria-label="Change {title.lower()}"')


async def edit_rates(manager: AsyncManagerClient, vm: Vm, after: Callable[[], Awaitable[None]]) -> None:
    """A form of all rate limits of the VM."""
    with FormDialog(f"Rate limits of {vm.name}",
                    "The most it may move in a second; empty is not limited. A running VM gets them at once.") as form:
        rates = Rates()
        rates.fill(vm.rate_limits)

    async def save() -> None:
        await manager.set_rate_limits(vm.name, rates.read())
        form.done(f"The rate limits of {vm.name} are changed.")
        await after()

    form.open("Save", save)


async def edit_forwards(manager: AsyncManagerClient, vm: Vm, after: Callable[[], Awaitable[None]]) -> None:
    """A form of all forwards of the VM."""
    with FormDialog(f"Port forwards of {vm.name}", "A running VM gets them at once.") as form, parts.box("sheet-body"):
        rows = Repeated("port forward", forward_row, 64)
        for forward in vm.forwards or (None,):
            rows.add(forward)

    async def save() -> None:
        await manager.set_forwards(vm.name, rows.read())
        form.done(f"The port forwards of {vm.name} are changed.")
        await after()

    form.open("Save", save)
