"""Templates: what VMs are made of, under a name."""

from __future__ import annotations

import re
from collections.abc import Callable

from fastapi import Request
from fastapi.responses import RedirectResponse
from nicegui import ui
from pydantic import ValidationError

from nqrust.client.manager import AsyncManagerClient, ClientError
from nqrust.contract.api.auth import Role
from nqrust.contract.api.templates import Template, TemplateCreate, TemplateList
from nqrust.contract.api.vms import NAME_PATTERN, Vm
from nqrust.ui import format as fmt
from nqrust.ui import parts, session
from nqrust.ui.fields import Trouble, Wrong
from nqrust.ui.frame import entrance, frame, head
from nqrust.ui.live import Live
from nqrust.ui.pages.vm_create import open_create
from nqrust.ui.pages.vm_fields import VmFields
from nqrust.ui.tables import Column, Listing, Row, button

_NAME = """<span class="name">{{ props.row.name }}</span><div class="muted small">{{ props.row.description }}</div>"""
_TAGS = """<span v-for="tag in props.row.tags" class="tag">{{ tag }}</span>"""


def row(template: Template) -> Row:
    return {
        "name": template.name, "description": template.description, "image": template.image, "memory": template.memory_mib,
        "size": f"{fmt.count(template.vcpus, 'vCPU')}, {fmt.mib(template.memory_mib)}", "tags": template.tags,
        "age": fmt.ago(template.updated_at), "changed": template.updated_at.isoformat(),
        "more": ", ".join(said for said in (
            fmt.count(len(template.volumes), "volume") if template.volumes else "",
            fmt.count(len(template.users), "account") if template.users else "",
            "rate limits" if template.rate_limits.model_dump(exclude_none=True) else "") if said) or "–",
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
        await _add(manager, live)

    async def remove(name: str) -> None:
        if await parts.confirm(f"Remove {name}?", "VMs that were made of it stay as they are.", "Remove"):
            try:
                await manager.delete_template(name)
            except ClientError as error:
                parts.failed(error)
                return
            parts.done(f"{name} is removed.")
            await live.refresh()

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
            key="name", handlers={"use": use, "remove": remove} if may_act else None,
            card=f'<div class="top"><div class="grow">{_NAME}</div><div>{_TAGS}</div></div>'
                 '<div class="muted small">{{ props.row.size }} · {{ props.row.image }}</div>',
            actions=button("add", "Create a VM of", "use", "name")
            + button("delete_outline", "Remove", "remove", "name", danger=True) if may_act else "",
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
            manager.list_templates, build, empty=lambda data: not data.items, every=4.0,
            when_empty=lambda: parts.nothing_yet(
                "copy_all", "No templates", "A template holds what several VMs have in common: image, size, accounts, limits.",
                "New template" if may_act else "", add if may_act else None),
        )
    return None


async def _add(manager: AsyncManagerClient, live: Live[TemplateList]) -> None:
    try:
        images = [image for image in (await manager.list_images()).items if image.state == "ready"]
    except ClientError as error:
        parts.failed(error)
        return
    dialog, card = parts.sheet()
    with card:
        parts.text("New template", tag="h2")
        fields = VmFields(images, passwords=False)
        with parts.box("sheet-body"):
            with parts.box("form"):
                name = ui.input("Name", validation={
                    "Small letters, digits and hyphens; a letter first": lambda v: bool(re.match(NAME_PATTERN, v or "")),
                }).props("autofocus autocomplete=off autocapitalize=none").classes("both")
                about = ui.input("What it is for").classes("both")
                fields.size()
                fields.restart()
            with parts.box("folds"):
                fields.accounts_fold()
                fields.volumes_fold()
                fields.rates_fold()
        trouble = Trouble()
        with parts.box("buttons"):
            parts.quiet("Cancel", dialog.close)
            save = parts.primary("Save", lambda: submit())

    async def submit() -> None:
        trouble.clear_away()
        if not name.validate():
            return
        save.props("loading")
        try:
            spec = fields.spec()
            wanted = TemplateCreate(**{**dict(spec), "name": name.value, "description": (about.value or "").strip()})
            await manager.create_template(wanted)
        except (Wrong, ValidationError, ClientError) as error:
            trouble.say(error)
            return
        finally:
            save.props(remove="loading")
        dialog.close()
        parts.done(f"{wanted.name} is saved.")
        await live.refresh()

    dialog.on("hide", dialog.delete)
    dialog.open()
