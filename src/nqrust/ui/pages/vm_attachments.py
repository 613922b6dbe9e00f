"""Attachments of a VM: port forwards and rate limits, changeable at any time, and volumes, changeable while it is stopped."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from nicegui import ui

from nqrust.client import calls
from nqrust.client.manager import AsyncManagerClient, ClientError
from nqrust.contract.vms import PortForward, RateLimits, Vm, VmState, Volume
from nqrust.ui import format as fmt
from nqrust.ui import parts
from nqrust.ui.fields import Rates, Repeated, forward_row, volume_row
from nqrust.ui.forms import FormDialog

Change = Callable[[Vm], Awaitable[None]]
_FATES = {"attaching": "being attached", "withdrawing": "being detached", "detaching": "being detached"}
_MOST_VOLUMES = 8


@dataclass(frozen=True)
class Changes:
    """Functions that open the forms for changing a VM."""

    forwards: Change
    rates: Change
    attach: Change
    detach: Callable[[Vm, Volume], Awaitable[None]]


class ForwardsCard:
    """The port forwards. `change` opens the form that changes them; None without permission."""

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
                parts.text("None. A forward connects a port of the host to a port of the VM.", "muted", tag="p")


class VolumesCard:
    """The disks beside the VM's own. `changes`: functions that attach and detach them; None without permission."""

    def __init__(self, changes: Changes | None) -> None:
        self._vm: Vm | None = None
        self._changes = changes
        self._shown: tuple[list[Volume], bool] | None = None
        with parts.box("card").props('role="region" aria-label="Volumes"'):
            self._attach = _title("Volumes", changes.attach if changes else None, lambda: self._vm, "Attach", "Attach a volume")
            self._place = parts.box("list")

    def show(self, vm: Vm) -> None:
        self._vm = vm
        still = vm.state in (VmState.stopped, VmState.failed)
        if self._shown == (vm.volumes, still):
            return
        self._shown = (vm.volumes, still)
        if self._attach is not None:
            self._attach.set_enabled(still and len(vm.volumes) < _MOST_VOLUMES)
        self._place.clear()
        with self._place:
            for volume in vm.volumes:
                with parts.box("line"):
                    parts.text(volume.device, "mono", tag="span")
                    settled = "kept" if volume.keep else "deleted with the VM"
                    parts.text(_FATES[volume.change] if volume.change else settled, "tag nowrap", tag="span")
                    parts.text(fmt.mib(volume.size_mib), "nowrap grow right", tag="span")
                    if self._changes is not None:
                        button = parts.icon_button("eject", f"Detach {volume.device}", partial(self._detach, volume))
                        button.set_enabled(still and volume.change is None)
            if not vm.volumes:
                parts.text("None. A volume is an extra disk.", "muted", tag="p")
            if self._changes is not None and not still:
                parts.text("Stop the VM to attach or detach volumes.", "muted small", tag="p")

    async def _detach(self, volume: Volume) -> None:
        if self._changes is not None and self._vm is not None:
            await self._changes.detach(self._vm, volume)


def describe_rates(limits: RateLimits) -> list[tuple[str, str]]:
    """Return names and values; a value for each kind, limited or not."""

    def said(value: float | None, factor: float, unit: str) -> str:
        return f"{value / factor:g} {unit}" if value is not None else "not limited"

    return [
        ("Network in", said(limits.net_rx_kbit, 1000, "Mbit/s")),
        ("Network out", said(limits.net_tx_kbit, 1000, "Mbit/s")),
        ("Each disk", said(limits.disk_kib, 1024, "MiB/s")),
        ("Operations", said(limits.disk_iops, 1, "per second")),
    ]


class RatesCard:
    """The rate limits. `change` opens the form that changes them; None without permission."""

    def __init__(self, change: Change | None) -> None:
        self._vm: Vm | None = None
        with parts.box("card").props('role="region" aria-label="Rate limits"'):
            _title("Rate limits", change, lambda: self._vm)
            self._values = parts.facts(describe_rates(RateLimits()))

    def show(self, vm: Vm) -> None:
        self._vm = vm
        for name, value in describe_rates(vm.rate_limits):
            self._values[name].say(value)


def _title(
    title: str, change: Change | None, vm: Callable[[], Vm | None], verb: str = "Change", label: str = ""
) -> ui.button | None:
    """Build a card's title and its edit button; None without permission."""

    async def clicked() -> None:
        shown = vm()
        if change is not None and shown is not None:
            await change(shown)

    with parts.box("row-between center"):
        parts.text(title, tag="h2")
        if change is None:
            return None
        return parts.quiet(verb, clicked).classes("small-button").props(f'aria-label="{label or f"{verb} {title.lower()}"}"')


async def edit_rates(manager: AsyncManagerClient, vm: Vm, after: Callable[[], Awaitable[None]]) -> None:
    """Open a form of all rate limits of the VM."""
    with FormDialog(
        f"Rate limits of {vm.name}", "Limits per second. Empty means no limit. They apply to a running VM at once."
    ) as form:
        rates = Rates()
        rates.fill(vm.rate_limits)

    async def save() -> None:
        await manager.send(calls.set_rate_limits(vm.id, rates.read()))
        form.done(f"The rate limits of {vm.name} are changed.")
        await after()

    form.open("Save", save)


async def edit_forwards(manager: AsyncManagerClient, vm: Vm, after: Callable[[], Awaitable[None]]) -> None:
    """Open a form with all port forwards of the VM."""
    with FormDialog(f"Port forwards of {vm.name}", "They apply to a running VM at once.") as form, parts.box("sheet-body"):
        rows = Repeated("port forward", forward_row, 64)
        for forward in vm.forwards or (None,):
            rows.add(forward)

    async def save() -> None:
        await manager.send(calls.set_forwards(vm.id, rows.read()))
        form.done(f"The port forwards of {vm.name} are changed.")
        await after()

    form.open("Save", save)


async def attach_volume(manager: AsyncManagerClient, vm: Vm, after: Callable[[], Awaitable[None]]) -> None:
    """Open a form for a new volume, or a kept one on the VM's host."""
    try:
        found = await manager.send(calls.list_volumes(vm.host))
    except ClientError as error:
        parts.failed(error)
        return
    kept = {v.name: f"{v.name}, {fmt.mib(v.size_mib)} on {v.host}" for v in found.items if v.vm is None}
    with (
        FormDialog(f"Attach a volume to {vm.name}", "An extra disk, available from the next start.") as form,
        parts.box("repeat"),
        parts.box("fields"),
    ):
        _, read = volume_row(kept)

    async def attach() -> None:
        await manager.send(calls.attach_volume(vm.id, read()))
        form.done(f"{vm.name} gets the volume.")
        await after()

    form.open("Attach", attach)


async def detach_volume(manager: AsyncManagerClient, vm: Vm, volume: Volume, after: Callable[[], Awaitable[None]]) -> None:
    """Ask what to do with the volume's data (default: keep it)."""
    name = volume.kept_name(vm.name, vm.id)
    where = f"It stays on {vm.host or 'its host'} as {name} and can be attached again."
    with FormDialog(f"Detach {volume.device} from {vm.name}?", "The other volumes keep their names.") as form:
        delete = ui.switch("Delete the volume and its data", value=False)
        parts.text(where, "muted break", tag="p").bind_visibility_from(delete, "value", value=False)
        parts.notice("This deletes its data permanently.", "bad", "warning").bind_visibility_from(delete, "value")

    async def detach() -> None:
        await manager.send(calls.detach_volume(vm.id, volume.device, "delete" if delete.value else "keep", name))
        form.done(f"{'Deleting' if delete.value else 'Detaching'} {volume.device}.")
        await after()

    def named() -> None:
        button.set_text("Delete" if delete.value else "Detach")
        button.props(f"color={'negative' if delete.value else 'primary'}")

    button = form.open("Detach", detach)
    delete.on_value_change(named)
