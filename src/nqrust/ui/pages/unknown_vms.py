"""Actions for a VM that a host has without a record: adopt it, or delete it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from nicegui import ui

from nqrust.client import calls
from nqrust.client.manager import AsyncManagerClient
from nqrust.contract.unknown_vms import UnknownVm
from nqrust.contract.vms import NAME_PATTERN
from nqrust.ui import parts

_RULE = "Lower-case letters, digits and dashes, beginning with a letter"
After = Callable[[], Awaitable[object]]


def _is_name(text: str | None) -> bool:
    return re.fullmatch(NAME_PATTERN[1:-1], (text or "").strip()) is not None


async def adopt(manager: AsyncManagerClient, vm: UnknownVm, after: After) -> None:
    dialog, card = parts.sheet()

    async def submit() -> None:
        wanted = str(name.value or "").strip()
        if not name.validate():
            return
        renamed = wanted if wanted != vm.name else None
        if await parts.carry_out(manager.send(calls.adopt_vm(vm.id, renamed)), f"{wanted or vm.id} is adopted.", after):
            dialog.close()

    with card:
        parts.text(f"Adopt {vm.name or vm.id}", tag="h2")
        parts.text(f"The manager makes the record from the data on host {vm.host}. The VM keeps running.", "muted", tag="p")
        name = ui.input("Name", value=vm.name, validation={_RULE: _is_name}).classes("full")
        name.without_auto_validation()
        with parts.box("buttons"):
            parts.quiet("Cancel", dialog.close)
            parts.primary("Adopt VM", submit)
    dialog.on("hide", dialog.delete)
    dialog.open()


async def delete(manager: AsyncManagerClient, vm: UnknownVm, after: After) -> None:
    name = vm.name or vm.id
    if await parts.confirm(f"Delete {name}?", f"It is ended, and its disk on host {vm.host} is deleted.", "Delete"):
        await parts.carry_out(manager.send(calls.delete_unknown_vm(vm.id)), f"{name} is deleted.", after)
