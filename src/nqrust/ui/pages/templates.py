"""Templates: named settings of VMs."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from fastapi import Request
from fastapi.responses import RedirectResponse
from nicegui import ui

from nqrust.client import calls
from nqrust.client.manager import AsyncManagerClient, ClientError
from nqrust.contract.auth import Role
from nqrust.contract.templates import Template, TemplateCreate, TemplateList, TemplateSpec
from nqrust.contract.vms import NAME_PATTERN, Vm
from nqrust.ui import format as fmt
from nqrust.ui import parts, session
from nqrust.ui.forms import FormDialog
from nqrust.ui.frame import entrance, frame, head
from nqrust.ui.live import Live
from nqrust.ui.pages.vm_create import open_create
from nqrust.ui.pages.vm_fields import VmFields
from nqrust.ui.still import still
from nqrust.ui.tables import Column, Listing, Row, button

_NAME = """<span class="name">{{ props.row.name }}</span><div class="muted small">{{ props.row.description }}</div>"""
_TAGS = """<span v-for="tag in props.row.tags" class="tag">{{ tag }}</span>"""


def row(template: Template) -> Row:
    return {
        "name": template.name,
        "description": template.description,
        "image": template.image,
        "memory": template.memory_mib,
        "size": f"{fmt.count(template.vcpus, 'vCPU')}, {fmt.mib(template.memory_mib)}",
        "tags": template.tags,
        "age": fmt.ago(template.updated_at),
        "changed": template.updated_at.isoformat(),
        "more": ", ".join(
            said
            for said in (
                fmt.count(len(template.volumes), "volume") if template.volumes else "",
                fmt.count(len(template.users), "account") if template.users else "",
                "rate limits" if template.rate_limits.model_dump(exclude_none=True) else "",
            )
            if said
        )
        or "–",
    }


@ui.page("/templates")
def templates(request: Request) -> RedirectResponse | None:
    me = entrance(request)
    if isinstance(me, RedirectResponse):
        return me
    manager = session.connect(me.token)
    may_act = me.may(Role.operator)

    async def created(vm: Vm) -> None:
        ui.navigate.to(f"/vms/{vm.name}")

    async def use(name: str) -> None:
        await open_create(manager, created, name)

    async def add() -> None:
        await _edit(manager, None, live.refresh)

    async def change(name: str) -> None:
        found = next((one for one in live.data.items if one.name == name), None) if live.data else None
        if found is not None:
            await _edit(manager, found, live.refresh)

    async def remove(name: str) -> None:
        shown = next((one for one in live.data.items if one.name == name), None) if live.data else None
        if (
            shown is not None
            and await parts.confirm(f"Remove {name}?", "Its VMs stay unchanged.", "Remove")
            and await still(name, manager.all_templates(), lambda one: (one.name, one.created_at) == (name, shown.created_at))
        ):
            await parts.carry_out(manager.send(calls.delete_template(name)), f"{name} is removed.", live.refresh)

    def build(data: TemplateList) -> Callable[[TemplateList], None]:
        listing = Listing(
            [
                Column("name", "Name", _NAME, sort="name"),
                Column("image", "Image", sort="image"),
                Column("size", "Size", "{{ props.row.size }}", sort="memory"),
                Column("more", "More"),
                Column("tags", "Tags", _TAGS),
                Column("age", "Changed", '<span class="muted nowrap">{{ props.row.age }}</span>', sort="changed"),
            ],
            key="name",
            handlers={"use": use, "change": change, "remove": remove} if may_act else None,
            card=f'<div class="top"><div class="grow">{_NAME}</div><div>{_TAGS}</div></div>'
            '<div class="muted small">{{ props.row.size }} · {{ props.row.image }}</div>',
            actions=button("add", "Create a VM of", "use", "name")
            + button("edit", "Change", "change", "name")
            + button("delete_outline", "Remove", "remove", "name", danger=True)
            if may_act
            else "",
        )

        def update(fresh: TemplateList) -> None:
            listing.show([row(template) for template in fresh.items])

        update(data)
        return update

    with frame(me, "/templates", "Templates"):
        with head("Templates"), parts.box("actions"):
            if may_act:
                parts.primary("New template", add, icon="add")
        live = Live(
            lambda: manager.all_templates(),
            build,
            empty=lambda data: not data.items,
            every=4.0,
            when_empty=lambda: parts.nothing_yet(
                "copy_all",
                "No templates",
                "A template stores the common options of several VMs, such as image, size and limits.",
                "New template" if may_act else "",
                add if may_act else None,
            ),
        )
    return None


async def _edit(manager: AsyncManagerClient, template: Template | None, after: Callable[[], Awaitable[None]]) -> None:
    """Open a form of the template, or of a new one (None)."""
    try:
        images = [image for image in (await manager.send(calls.list_images())).items if image.state == "ready"]
    except ClientError as error:
        parts.failed(error)
        return
    title, note = (f"Change {template.name}", "Its VMs stay unchanged.") if template else ("New template", "")
    with FormDialog(title, note) as form, parts.box("sheet-body"):
        fields = VmFields(images, new_vm=False)
        with parts.box("form"):
            name = (
                ui.input(
                    "Name",
                    value=template.name if template else "",
                    validation={
                        "Lower-case letters, digits and hyphens. Begin with a letter": lambda v: bool(
                            re.match(NAME_PATTERN, v or "")
                        ),
                    },
                )
                .props("autocomplete=off autocapitalize=none")
                .classes("both")
            )
            name.set_visibility(template is None)
            about = ui.input("Description", value=template.description if template else "").classes("both")
            fields.size()
            fields.restart()
        with parts.box("folds"):
            fields.accounts_fold()
            fields.volumes_fold()
            fields.rates_fold()
        if template is not None:
            fields.fill(template)

    async def save() -> None:
        spec = {**dict(fields.spec()), "description": (about.value or "").strip()}
        if template is None:
            await manager.send(calls.create_template(TemplateCreate(**spec, name=name.value)))
        else:
            await manager.send(calls.replace_template(template.name, TemplateSpec(**spec)))
        form.done(f"{name.value} is saved.")
        await after()

    form.open("Save", save)
