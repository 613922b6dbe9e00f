"""The dialog that creates a VM. Name and image are enough; everything else has a default."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from nicegui import ui

from nqrust.client import calls
from nqrust.client.manager import AsyncManagerClient, ClientError
from nqrust.contract.hosts import Host, HostState
from nqrust.contract.images import Image
from nqrust.contract.templates import Template
from nqrust.contract.vms import NAME_PATTERN, Vm, VmCreate
from nqrust.contract.volumes import StoredVolume
from nqrust.ui import format as fmt
from nqrust.ui import parts
from nqrust.ui.fields import Repeated, forward_row
from nqrust.ui.forms import FormDialog
from nqrust.ui.pages.image_pull import present
from nqrust.ui.pages.vm_fields import PULLED, VmFields, fold


@dataclass(frozen=True)
class Choices:
    """Choices for the form. `taken`: names of VMs."""

    images: list[Image]
    hosts: list[Host]
    templates: list[Template]
    volumes: list[StoredVolume]
    taken: set[str]


async def choices(manager: AsyncManagerClient) -> Choices:
    """Return the currently available choices. Raises ClientError."""
    images, hosts, templates, volumes, vms = await asyncio.gather(
        manager.send(calls.list_images()),
        manager.send(calls.list_hosts()),
        manager.all_templates(),
        manager.send(calls.list_volumes()),
        manager.send(calls.list_vms()),
    )
    return Choices(
        [image for image in images.items if image.state == "ready"],
        [host for host in hosts.items if not host.cordoned and host.state is HostState.online],
        templates.items,
        [volume for volume in volumes.items if volume.vm is None],
        {vm.name for vm in vms.items},
    )


async def open_create(manager: AsyncManagerClient, after: Callable[[Vm], Awaitable[None]], template: str | None = None) -> None:
    """Open the form, create the VM, close. `after` gets the new VM. `template`: the initial one."""
    try:
        found = await choices(manager)
    except ClientError as error:
        parts.failed(error)
        return
    with FormDialog("Create a VM") as dialog, parts.box("sheet-body"):
        if not found.hosts:
            parts.notice("No host takes new VMs now. The VM will wait.", "", "memory")
        form = Form(found, template)

        said = parts.Text("", "p").classes("muted small break").props('role="status"')

    async def create() -> None:
        image = str(form.fields.image.value or "")
        if image == PULLED:
            form.read("pulled")  # shows faults of other fields before the pull
            try:
                pulled = await present(manager, form.fields.reference.value, said.say, lambda: dialog.is_open)
            finally:
                said.say("")
            if pulled is None:
                return
            image = pulled
        wanted = form.read(image)
        vm = await manager.send(calls.create_vm(wanted, form.key(wanted)))
        dialog.done(f"Creating {vm.name}.")
        await after(vm)

    dialog.open("Create", create)


class Form:
    """The form's fields, and the request that they make."""

    def __init__(self, found: Choices, template: str | None) -> None:
        self._sent: tuple[VmCreate, str] | None = None
        self._templates = {one.name: one for one in found.templates}
        kept = {v.name: f"{v.name}, {fmt.mib(v.size_mib)} on {v.host}" for v in found.volumes}
        self.fields = fields = VmFields(found.images, kept)
        with parts.box("form"):
            if found.templates:  # not hidden without: a dialog gives the focus to its first field, seen or not
                shown = {"": "none", **{one.name: _described(one) for one in found.templates}}
                chosen = ui.select(shown, label="Template", value="", on_change=lambda event: self._take(event.value))
                chosen.classes("both")
            self.name = (
                ui.input(
                    "Name",
                    value=fmt.free_name(found.taken),
                    validation={
                        "Lower-case letters, digits and hyphens. Begin with a letter": lambda v: bool(
                            re.match(NAME_PATTERN, v or "")
                        ),
                        "This name is taken": lambda v: v not in found.taken,
                    },
                )
                .props("autofocus autocomplete=off autocapitalize=none")
                .classes("both")
            )
            fields.size()
            self.start = ui.switch("Start now", value=True).classes("both")
        with parts.box("folds"):
            fields.accounts_fold()
            with fold("Port forwards", "swap_horiz", "Forwarded ports"):
                self.forwards = Repeated("port forward", forward_row, 64)
            with fold("User data", "description", "For cloud-init in the guest"):
                self.user_data = ui.textarea("User data", placeholder="#cloud-config").props("autogrow rows=4")
                self.user_data.classes("full mono").props("maxlength=49152 spellcheck=false autocomplete=off")
                self.user_data.props('hint="At most 48 KiB. nqr does not show it again" hide-bottom-space')
            fields.volumes_fold()
            fields.rates_fold()
            with fold("Placement and restart", "tune", "Host, restart policy, network, tags"), parts.box("form full"):
                hosts = {"": "automatic", **{host.name: host.name for host in found.hosts}}
                self.host = ui.select(hosts, label="Host", value="")
                fields.restart()
        if template in self._templates:
            chosen.value = template

    def _take(self, name: str) -> None:
        if name in self._templates:
            self.fields.fill(self._templates[name])

    def key(self, wanted: VmCreate) -> str:
        """Return the same key for the same request, so that a retry creates no second VM."""
        if self._sent is None or self._sent[0] != wanted:
            self._sent = (wanted, str(uuid.uuid4()))
        return self._sent[1]

    def read(self, image: str) -> VmCreate:
        """Return the request for a VM of `image`. Raises ValidationError and Wrong."""
        spec = self.fields.spec(image)
        return VmCreate(
            **{
                field: getattr(spec, field)
                for field in type(spec).model_fields
                if field not in ("description", "volumes", "users")
            },
            name=self.name.value or "",
            start=bool(self.start.value),
            host=self.host.value or None,
            forwards=self.forwards.read(),
            volumes=self.fields.volumes.read(),
            users=self.fields.accounts.read(),
            user_data=self.user_data.value or "",
        )


def _described(template: Template) -> str:
    return f"{template.name} – {template.description}" if template.description else template.name
