"""What hangs on a VM: port forwards, which can be changed while it runs, and volumes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui import ui
from pydantic import ValidationError

from nqrust.client.manager import AsyncManagerClient, ClientError
from nqrust.contract.api.vms import PortForward, Vm, Volume
from nqrust.ui import format as fmt
from nqrust.ui import parts
from nqrust.ui.fields import Repeated, Trouble, Wrong, forward_row


class ForwardsCard:
    """The port forwards. `change` opens the form that changes them; None for those who may not."""

    def __init__(self, change: Callable[[Vm], Awaitable[None]] | None) -> None:
        self._vm: Vm | None = None
        self._shown: list[PortForward] | None = None
        with parts.box("card").props('role="region" aria-label="Port forwards"'):
            with parts.box("row-between"):
                parts.text("Port forwards", tag="h2")
                if change is not None:

                    async def clicked() -> None:
                        if self._vm is not None:
                            await change(self._vm)

                    parts.quiet("Change", clicked).props('dense aria-label="Change port forwards"')
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


async def edit_forwards(manager: AsyncManagerClient, vm: Vm, after: Callable[[], Awaitable[None]]) -> None:
    """A form of all forwards of the VM."""
    dialog, card = parts.sheet()
    with card:
        parts.text(f"Port forwards of {vm.name}", tag="h2")
        parts.text("A running VM gets them at once.", "muted", tag="p")
        with parts.box("sheet-body"):
            rows = Repeated("port forward", forward_row, 64)
        for forward in vm.forwards:
            rows.add(forward)
        if not vm.forwards:
            rows.add().props("autofocus")
        trouble = Trouble()
        with parts.box("buttons"):
            parts.quiet("Cancel", dialog.close)
            button = parts.primary("Save", lambda: submit())

    async def submit() -> None:
        trouble.clear_away()
        button.props("loading")
        try:
            await manager.set_forwards(vm.name, rows.read())
        except (Wrong, ValidationError, ClientError) as error:
            trouble.say(error)
            return
        finally:
            button.props(remove="loading")
        dialog.close()
        parts.done(f"The port forwards of {vm.name} are changed.")
        await after()

    dialog.on("hide", dialog.delete)
    dialog.open()
