"""All VMs: a table that follows their state."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.responses import RedirectResponse
from nicegui import ui

from nqrust.client import calls
from nqrust.contract.auth import Role
from nqrust.contract.vms import Vm, VmList
from nqrust.ui import format as fmt
from nqrust.ui import history, parts, session
from nqrust.ui.frame import entrance, frame, head
from nqrust.ui.live import Live
from nqrust.ui.pages.vm_create import open_create
from nqrust.ui.tables import BADGE, Column, Listing, Row, RowHandler, button
from nqrust.ui.vm_actions import VmActions, possible

_NAME = """<a class="name" :href="'/vms/' + encodeURIComponent(props.row.name)">{{ props.row.name }}</a>
<span v-for="tag in props.row.tags" class="tag" style="margin-left: 6px">{{ tag }}</span>"""
_STATE = BADGE + """<q-tooltip v-if="props.row.error">{{ props.row.error }}</q-tooltip>"""
_CARD = f"""<div class="top"><div>{_NAME}</div>{BADGE}</div>
<div class="muted small">{{{{ props.row.size }}}} · {{{{ props.row.image }}}} · {{{{ props.row.host }}}}</div>
<div class="small" style="color: var(--bad)" v-if="props.row.error">{{{{ props.row.error }}}}</div>"""
_ACTIONS = "".join(
    (
        button("play_arrow", "Start", "start", "id", "props.row.can.includes('start')", named="name"),
        button("play_arrow", "Resume", "resume", "id", "props.row.can.includes('resume')", named="name"),
        button("pause", "Pause", "pause", "id", "props.row.can.includes('pause')", named="name"),
        button("stop", "Stop", "stop", "id", "props.row.can.includes('stop')", named="name"),
        button("power_settings_new", "Switch off", "force_stop", "id", "props.row.can.includes('force-stop')", named="name"),
        button("delete_outline", "Delete", "delete", "id", "props.row.can.includes('delete')", danger=True, named="name"),
    )
)


def row(vm: Vm) -> Row:
    """Return a VM's table row."""
    return {
        "id": vm.id,
        "name": vm.name,
        "state": vm.state.value,
        "tone": fmt.tone(vm.state.value),
        "error": vm.error,
        "tags": vm.tags,
        "ip": vm.ip or "–",
        "image": vm.image,
        "host": vm.host or "–",
        "vcpus": vm.vcpus,
        "memory": vm.memory_mib,
        "size": f"{fmt.count(vm.vcpus, 'vCPU')}, {fmt.mib(vm.memory_mib)}",
        "age": fmt.ago(vm.created_at),
        "created": vm.created_at.isoformat(),
        "can": sorted(possible(vm)),
        "find": " ".join((vm.name, vm.state.value, vm.ip or "", vm.image, vm.host or "", *vm.tags)),
    }


@ui.page("/vms")
def vms(request: Request, find: str = "") -> RedirectResponse | None:
    """`find`: the initial search."""
    me = entrance(request)
    if isinstance(me, RedirectResponse):
        return me
    manager = session.connect(me.token)
    may_act = me.may(Role.operator)

    async def refresh() -> None:
        await live.refresh()

    async def created(vm: Vm) -> None:
        await live.refresh()

    async def create() -> None:
        await open_create(manager, created)

    def shown(verb: Callable[[Vm], Coroutine[Any, Any, None]]) -> RowHandler:
        async def run(vm_id: str) -> None:
            vm = next((one for one in live.data.items if one.id == vm_id), None) if live.data else None
            if vm is not None:
                await verb(vm)

        return run

    def build(data: VmList) -> Callable[[VmList], None]:
        listing = Listing(
            [
                Column("name", "Name", _NAME, sort="name"),
                Column("state", "State", _STATE, sort="state"),
                Column("ip", "Address", '<span class="mono">{{ props.row.ip }}</span>'),
                Column("size", "Size", sort="memory", cell="{{ props.row.size }}"),
                Column("image", "Image", sort="image"),
                Column("host", "Host", sort="host"),
                Column("age", "Created", sort="created", cell='<span class="muted nowrap">{{ props.row.age }}</span>'),
            ],
            key="name",
            card=_CARD,
            card_foot='<span class="mono">{{ props.row.ip }}</span>',
            actions=_ACTIONS if may_act else "",
            search="Name, state, address, host, tag",
            find=find[:100],
            handlers={
                "start": shown(actions.start),
                "stop": shown(actions.stop),
                "pause": shown(actions.pause),
                "resume": shown(actions.resume),
                "delete": shown(actions.delete),
                "force_stop": shown(actions.force_stop),
            }
            if may_act
            else None,
        )

        def update(fresh: VmList) -> None:
            listing.show([row(vm) for vm in fresh.items])
            seen = {visible["name"] for visible in listing.shown}
            history.remember(vm for vm in fresh.items if vm.name in seen)
            many.say(fmt.count(fresh.total, "VM"))

        update(data)
        return update

    actions = VmActions(manager, refresh)
    with frame(me, "/vms", "VMs"):
        with head("VMs"), parts.box("actions"):
            many = parts.text("", "muted nowrap", tag="span")
            if may_act:
                parts.primary("Create VM", create, icon="add")
        live = Live(
            lambda: manager.send(calls.list_vms()),
            build,
            empty=lambda data: not data.items,
            when_empty=lambda: parts.nothing_yet(
                "dns",
                "No VMs yet",
                "A new VM starts within a few seconds.",
                "Create VM" if may_act else "",
                create if may_act else None,
            ),
        )
    return None
