"""Kept volumes: disks that outlive their VMs, on the host where they are."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Request
from fastapi.responses import RedirectResponse
from nicegui import ui

from nqrust.client import calls
from nqrust.contract.auth import Role
from nqrust.contract.volumes import StoredVolume, StoredVolumeList
from nqrust.ui import format as fmt
from nqrust.ui import parts, session
from nqrust.ui.frame import entrance, frame, head
from nqrust.ui.live import Live
from nqrust.ui.tables import Column, Listing, Row, button

_NAME = """<span class="name break">{{ props.row.name }}</span>"""
_LINK = """<a v-if="props.row.vm" :href="'/vms/' + encodeURIComponent(props.row.vm)">{{ props.row.vm }}</a>"""
_VM = f"""{_LINK}<span v-else class="muted">–</span>"""
_USE = f"""<template v-if="props.row.vm"> · attached to {_LINK}</template><template v-else> · not attached</template>"""
_AGE = '<span class="muted nowrap">{{ props.row.age }}</span>'


def row(volume: StoredVolume) -> Row:
    return {
        "name": volume.name,
        "size": volume.size_mib,
        "size_text": fmt.mib(volume.size_mib),
        "host": volume.host,
        "vm": volume.vm or "",
        "age": fmt.ago(volume.created_at),
        "created": volume.created_at.isoformat(),
    }


@ui.page("/volumes")
def volumes(request: Request) -> RedirectResponse | None:
    me = entrance(request)
    if isinstance(me, RedirectResponse):
        return me
    manager = session.connect(me.token)
    may_act = me.may(Role.operator)

    async def remove(name: str) -> None:
        if await parts.confirm(f"Remove {name}?", "This deletes the volume and its data permanently.", "Remove"):
            await parts.carry_out(manager.send(calls.delete_volume(name)), f"{name} is removed.", live.refresh)

    def build(data: StoredVolumeList) -> Callable[[StoredVolumeList], None]:
        listing = Listing(
            [
                Column("name", "Name", _NAME, sort="name"),
                Column("size", "Size", "{{ props.row.size_text }}", sort="size"),
                Column("host", "Host", sort="host"),
                Column("vm", "Attached to", _VM, sort="vm"),
                Column("age", "Kept since", _AGE, sort="created"),
            ],
            key="name",
            search="Name, host or VM",
            handlers={"remove": remove} if may_act else None,
            card=f'<div class="top">{_NAME}<span class="nowrap">{{{{ props.row.size_text }}}}</span></div>'
            f'<div class="muted small">on {{{{ props.row.host }}}}{_USE}</div>',
            actions=button("delete_outline", "Remove", "remove", "name", "!props.row.vm", danger=True) if may_act else "",
        )

        def update(fresh: StoredVolumeList) -> None:
            listing.show([row(volume) for volume in fresh.items])

        update(data)
        return update

    with frame(me, "/volumes", "Volumes"):
        head("Volumes")
        live = Live(
            lambda: manager.send(calls.list_volumes()),
            build,
            empty=lambda data: not data.items,
            every=4.0,
            when_empty=lambda: parts.nothing_yet(
                "storage",
                "No kept volumes",
                "A kept volume stays on its host after a detach or the deletion of its VM. "
                "You can attach it to another VM there.",
            ),
        )
    return None
