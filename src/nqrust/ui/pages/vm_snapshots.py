"""The snapshots of a VM: take, restore, delete."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from nicegui import ui

from nqrust.client import calls
from nqrust.client.manager import AsyncManagerClient
from nqrust.contract.vms import SNAPSHOT_PATTERN, Snapshot, SnapshotList, Vm
from nqrust.ui import format as fmt
from nqrust.ui import parts
from nqrust.ui.forms import FormDialog
from nqrust.ui.live import Live
from nqrust.ui.still import still
from nqrust.ui.tables import BADGE, Column, Listing, Row, button

_KINDS = {"disk": "disks", "full": "disks and memory"}
_STATE = BADGE + """<div class="small bad-text" v-if="props.row.error">{{ props.row.error }}</div>"""
_AGE = '<span class="muted nowrap" :title="props.row.clock">{{ props.row.age }}</span>'


def row(snapshot: Snapshot) -> Row:
    return {
        "name": snapshot.name,
        "kind": _KINDS[snapshot.kind],
        "size": snapshot.size,
        "size_text": fmt.size(snapshot.size) if snapshot.size else "–",
        "state": snapshot.state,
        "tone": fmt.tone(snapshot.state),
        "error": snapshot.error,
        "age": fmt.ago(snapshot.created_at),
        "clock": fmt.clock(snapshot.created_at),
        "created": snapshot.created_at.isoformat(),
    }


class Snapshots:
    """The tab: a list that follows the manager, with actions. `shown`: the VM that the page shows now, or None before its first
    answer. `may_act`: otherwise it is read-only."""

    def __init__(self, manager: AsyncManagerClient, vm: str, shown: Callable[[], Vm | None], may_act: bool) -> None:
        self._manager, self._shown, self._may_act = manager, shown, may_act
        with parts.box("row-between wrap"):
            parts.text("Snapshots save the disks, and the memory if the VM is running.", "muted", tag="p")
            if may_act:
                parts.quiet("Take snapshot", self._take, icon="photo_camera")
        self._live: Live[SnapshotList] = Live(
            lambda: manager.send(calls.list_snapshots(vm)),
            self._build,
            empty=lambda data: not data.items,
            when_empty=lambda: parts.nothing_yet(
                "photo_camera", "No snapshots", "A snapshot saves the disks so that you can restore them later."
            ),
        )

    def _build(self, data: SnapshotList) -> Callable[[SnapshotList], None]:
        actions = button("settings_backup_restore", "Restore", "restore", "name", "props.row.state === 'ready'") + button(
            "delete_outline", "Delete", "delete", "name", "props.row.state !== 'deleting'", danger=True
        )
        listing = Listing(
            [
                Column("name", "Name", '<span class="name">{{ props.row.name }}</span>', sort="name"),
                Column("state", "State", _STATE, sort="state"),
                Column("kind", "Holds", sort="kind"),
                Column("size", "Size", "{{ props.row.size_text }}", sort="size"),
                Column("age", "Taken", _AGE, sort="created"),
            ],
            key="name",
            actions=actions if self._may_act else "",
            handlers={"restore": self._restore, "delete": self._delete} if self._may_act else None,
            card=f'<div class="top"><span class="name">{{{{ props.row.name }}}}</span>{BADGE}</div>'
            '<div class="muted small">{{ props.row.kind }} · {{ props.row.size_text }} · {{ props.row.age }}</div>'
            '<div class="small bad-text" v-if="props.row.error">{{ props.row.error }}</div>',
        )

        def update(fresh: SnapshotList) -> None:
            listing.show([row(snapshot) for snapshot in fresh.items])

        update(data)
        return update

    async def _take(self) -> None:
        vm = self._shown()
        if vm is not None:
            taken = {s.name for s in self._live.data.items} if self._live.data else set[str]()
            await _ask_name(self._manager, vm.id, taken, self._live.refresh)

    def _of(self, name: str) -> tuple[Vm | None, Snapshot | None]:
        listed = self._live.data.items if self._live.data else []
        return self._shown(), next((one for one in listed if one.name == name), None)

    async def _still(self, vm: Vm, snapshot: Snapshot) -> bool:
        """Return whether the VM still has this snapshot, and no later one of its name."""
        fetched = self._manager.send(calls.list_snapshots(vm.id))
        return await still(snapshot.name, fetched, lambda one: (one.name, one.created_at) == (snapshot.name, snapshot.created_at))

    async def _restore(self, name: str) -> None:
        vm, snapshot = self._of(name)
        if vm is None or snapshot is None:
            return
        sentence = f"The disks of {vm.name} return to this snapshot. Later changes are lost. The VM must be stopped."
        if await parts.confirm(f"Restore {name}?", sentence, "Restore") and await self._still(vm, snapshot):
            await self._do(self._manager.send(calls.restore_snapshot(vm.id, name)), f"Restoring {vm.name} to {name}.")

    async def _delete(self, name: str) -> None:
        vm, snapshot = self._of(name)
        if vm is None or snapshot is None:
            return
        sure = await parts.confirm(f"Delete snapshot {name}?", "You cannot restore it afterwards.", "Delete")
        if sure and await self._still(vm, snapshot):
            await self._do(self._manager.send(calls.delete_snapshot(vm.id, name)), f"Deleting {name}.")

    async def _do(self, call: Awaitable[object], said: str) -> None:
        await parts.carry_out(call, said, self._live.refresh)


async def _ask_name(manager: AsyncManagerClient, vm: str, taken: set[str], after: Callable[[], Awaitable[None]]) -> None:
    with FormDialog("Take a snapshot") as form:
        name = ui.input(
            "Name",
            value=fmt.free_name(taken, "snapshot"),
            validation={
                "Lower-case letters, digits and hyphens": lambda v: bool(re.match(SNAPSHOT_PATTERN, v or "")),
            },
        ).props("autocomplete=off autocapitalize=none")

    async def take() -> None:
        await manager.send(calls.create_snapshot(vm, name.value))
        form.done(f"Taking the snapshot {name.value}.")
        await after()

    form.open("Take", take)
