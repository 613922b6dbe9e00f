"""The dialog that creates a VM: a name and an image are enough, all else has a sensible value."""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable

from nicegui import ui
from pydantic import ValidationError

from nqrust.client.manager import AsyncManagerClient, ClientError
from nqrust.contract.api.hosts import Host, HostState
from nqrust.contract.api.images import Image
from nqrust.contract.api.vms import NAME_PATTERN, RestartPolicy, Vm, VmCreate
from nqrust.ui import format as fmt
from nqrust.ui import parts

_MEMORY = {mib: fmt.mib(mib) for mib in (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)}
_POLICIES = {
    RestartPolicy.on_failure.value: "when it fails", RestartPolicy.always.value: "always", RestartPolicy.never.value: "never",
}


def complaint(error: ValidationError) -> str:
    """The first thing wrong with a form, in a sentence."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]).replace("_", " ")
    return f"{where}: {first['msg']}".strip(": ")


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
        if not images:
            parts.notice("There is no image that is ready. Add one first.", "", "album")
        if not hosts:
            parts.notice("No host takes new VMs now: the VM will wait for one.", "", "memory")
        form = _Form(images, hosts, taken)
        with parts.box("buttons"):
            parts.quiet("Cancel", dialog.close)
            create = parts.primary("Create", lambda: submit())
            create.set_enabled(bool(images))

    async def submit() -> None:
        wanted = form.read()
        if wanted is None:
            return
        create.props("loading")
        try:
            vm = await manager.create_vm(wanted, form.key)
        except ClientError as error:
            form.say(parts.explain(error))
            return
        finally:
            create.props(remove="loading")
        dialog.close()
        parts.done(f"{vm.name} is being created.")
        await after(vm)

    form.name.on("keydown.enter", submit)
    dialog.on("hide", dialog.delete)
    dialog.open()


class _Form:
    """The fields, and the request they make. The key makes a second click the same request."""

    def __init__(self, images: list[Image], hosts: list[Host], taken: set[str]) -> None:
        self.key = str(uuid.uuid4())
        self._images = {image.name: image for image in images}
        first = "tiny" if "tiny" in self._images else next(iter(self._images), None)
        with parts.box("form"):
            self.name = ui.input("Name", value=fmt.free_name(taken), validation={
                "Small letters, digits and hyphens; a letter first": lambda v: bool(re.match(NAME_PATTERN, v or "")),
                "This name is taken": lambda v: v not in taken,
            }).props("autofocus").classes("both")
            self.image = ui.select({n: _label(i) for n, i in self._images.items()}, label="Image", value=first).classes("both")
            self.vcpus = ui.number("vCPUs", value=1, min=1, max=32, precision=0)
            self.memory = ui.select(_MEMORY, label="Memory", value=256)
            self.start = ui.switch("Start it now", value=True).classes("both")
        with ui.expansion("More").classes("full").props("dense"), parts.box("form full"):
            self.disk = ui.number("Disk (MiB)", placeholder="as the image", min=16, precision=0)
            self.host = ui.select({"": "chosen by free room", **{h.name: h.name for h in hosts}}, label="Host", value="")
            self.policy = ui.select(_POLICIES, label="Restart", value=RestartPolicy.on_failure.value)
            self.tags = ui.input("Tags", placeholder="web, test")
            self.autostart = ui.switch("Start it with its host", value=True).classes("both")
            self.keys = ui.textarea("SSH keys, one a line").props("autogrow rows=2").classes("both mono")
        self._trouble = parts.text("", "notice bad").props('role="alert"')
        self._trouble.set_visibility(False)

    def say(self, sentence: str) -> None:
        self._trouble.say(sentence)
        self._trouble.set_visibility(True)

    def read(self) -> VmCreate | None:
        self._trouble.set_visibility(False)
        if not self.name.validate():
            return None
        try:
            return VmCreate(
                name=self.name.value or "",
                image=self.image.value or "",
                vcpus=int(self.vcpus.value or 1),
                memory_mib=int(self.memory.value or 256),
                disk_mib=int(self.disk.value) if self.disk.value else None,
                start=bool(self.start.value),
                host=self.host.value or None,
                autostart=bool(self.autostart.value),
                restart_policy=RestartPolicy(self.policy.value),
                ssh_keys=[line.strip() for line in (self.keys.value or "").splitlines() if line.strip()],
                tags=[tag.strip() for tag in (self.tags.value or "").split(",") if tag.strip()],
            )
        except ValidationError as error:
            self.say(complaint(error))
            return None


def _label(image: Image) -> str:
    return f"{image.name} – {image.description}" if image.description else image.name
