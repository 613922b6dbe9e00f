"""The dialog that creates a VM: a name and an image are enough, all else has a sensible value."""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from nicegui import ui
from pydantic import ValidationError

from nqrust.client.manager import AsyncManagerClient, ClientError
from nqrust.contract.api.hosts import Host, HostState
from nqrust.contract.api.images import Image
from nqrust.contract.api.vms import NAME_PATTERN, RestartPolicy, Vm, VmCreate
from nqrust.ui import format as fmt
from nqrust.ui import parts
from nqrust.ui.fields import (
    Repeated,
    Size,
    Trouble,
    Wrong,
    account_row,
    forward_row,
    lines,
    volume_row,
    words,
)

_MEMORY = {mib: fmt.mib(mib) for mib in (64, 96, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)}
_POLICIES = {
    RestartPolicy.on_failure.value: "when it fails", RestartPolicy.always.value: "always", RestartPolicy.never.value: "never",
}


async def open_create(manager: AsyncManagerClient, after: Callable[[Vm], Awaitable[None]]) -> None:
    """Ask what is needed, create the VM, close. `after` gets the new VM."""
    try:
        images = [image for image in (await manager.list_images()).items if image.state == "ready"]
        hosts = [host for host in (await manager.list_hosts()).items if not host.cordoned and host.state is HostState.online]
        taken = {vm.name for vm in (await manager.list_vms()).items}
    except ClientError as error:
        parts.failed(error)
        return
    dialog, card = parts.sheet()
    with card:
        parts.text("Create a VM", tag="h2")
        with parts.box("sheet-body"):
            if not images:
                parts.notice("There is no image that is ready. Add one first.", "", "album")
            if not hosts:
                parts.notice("No host takes new VMs now: the VM will wait for one.", "", "memory")
            form = Form(images, hosts, taken)
        trouble = Trouble()
        with parts.box("buttons"):
            parts.quiet("Cancel", dialog.close)
            create = parts.primary("Create", lambda: submit())
            create.set_enabled(bool(images))

    async def submit() -> None:
        trouble.clear_away()
        try:
            wanted = form.read()
        except (ValidationError, Wrong) as error:
            trouble.say(error)
            return
        if wanted is None:
            return
        create.props("loading")
        try:
            vm = await manager.create_vm(wanted, form.key(wanted))
        except ClientError as error:
            trouble.say(error)
            return
        finally:
            create.props(remove="loading")
        dialog.close()
        parts.done(f"{vm.name} is being created.")
        await after(vm)

    form.name.on("keydown.enter", submit)
    dialog.on("hide", dialog.delete)
    dialog.open()


class Form:
    """The fields, and the request they make."""

    def __init__(self, images: list[Image], hosts: list[Host], taken: set[str]) -> None:
        self._sent: tuple[VmCreate, str] | None = None
        self._images = {image.name: image for image in images}
        first = "tiny" if "tiny" in self._images else next(iter(self._images), None)
        with parts.box("form"):
            self.name = ui.input("Name", value=fmt.free_name(taken), validation={
                "Small letters, digits and hyphens; a letter first": lambda v: bool(re.match(NAME_PATTERN, v or "")),
                "This name is taken": lambda v: v not in taken,
            }).props("autofocus autocomplete=off autocapitalize=none").classes("both")
            self.image = ui.select({n: _label(i) for n, i in self._images.items()}, label="Image", value=first,
                                   on_change=self._fit).classes("both")
            self.vcpus = ui.number("vCPUs", value=1, min=1, max=32, precision=0)
            self.memory = ui.select(_MEMORY, label="Memory", value=256)
            self.disk = Size("Disk").classes("both")
            self.start = ui.switch("Start it now", value=True).classes("both")
        with parts.box("folds"):
            with _fold("Accounts and SSH keys", "key", "Written into its disk before it boots"):
                self.keys = ui.textarea("SSH keys of root, one a line").props("autogrow rows=2").classes("full mono")
                self.accounts = Repeated("account", account_row, 8)
            with _fold("Port forwards", "swap_horiz", "Ports of its host that lead to it"):
                self.forwards = Repeated("port forward", forward_row, 64)
            with _fold("Volumes", "storage", "Empty disks beside its own: vdb, vdc …"):
                self.volumes = Repeated("volume", volume_row, 8)
            with _fold("Placement and restart", "tune", "Host, restart policy, tags"), parts.box("form full"):
                self.host = ui.select({"": "chosen by free room", **{h.name: h.name for h in hosts}}, label="Host", value="")
                self.policy = ui.select(_POLICIES, label="Restart it", value=RestartPolicy.on_failure.value)
                self.tags = ui.input("Tags, between commas", placeholder="web, test").classes("both")
                self.autostart = ui.switch("Start it with its host", value=True).classes("both")
        self._fit()

    def _fit(self) -> None:
        """No less than the image needs."""
        image = self._images.get(self.image.value or "")
        if image is None:
            return
        self.disk.props(f'placeholder="{fmt.mib(max(image.min_disk_mib, -(-image.size // 1048576)))}, as the image"')
        if int(self.memory.value or 0) < image.min_memory_mib:
            self.memory.value = next((mib for mib in _MEMORY if mib >= image.min_memory_mib), self.memory.value)

    def key(self, wanted: VmCreate) -> str:
        """The same key for the same request, so that asking again makes no second VM."""
        if self._sent is None or self._sent[0] != wanted:
            self._sent = (wanted, str(uuid.uuid4()))
        return self._sent[1]

    def read(self) -> VmCreate | None:
        """None while the name cannot be; its field says why. Raises ValidationError and Wrong."""
        if not self.name.validate():
            return None
        return VmCreate(
            name=self.name.value or "",
            image=self.image.value or "",
            vcpus=int(self.vcpus.value or 1),
            memory_mib=int(self.memory.value or 256),
            disk_mib=self.disk.mib(),
            start=bool(self.start.value),
            host=self.host.value or None,
            autostart=bool(self.autostart.value),
            restart_policy=RestartPolicy(self.policy.value),
            ssh_keys=lines(self.keys.value),
            tags=words(self.tags.value),
            forwards=self.forwards.read(),
            volumes=self.volumes.read(),
            users=self.accounts.read(),
        )


@contextmanager
def _fold(title: str, icon: str, caption: str) -> Iterator[None]:
    with ui.expansion(title, icon=icon, caption=caption).classes("fold"), parts.box("fold-inside"):
        yield


def _label(image: Image) -> str:
    return f"{image.name} – {image.description}" if image.description else image.name
