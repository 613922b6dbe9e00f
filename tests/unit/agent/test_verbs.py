"""Verbs end, whatever an image or a guest brings about, and leave their VM to the next one."""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from nqrust.agent.api.app import Verbs
from nqrust.agent.disks import accounts
from nqrust.agent.errors import Failed
from nqrust.agent.vms import service
from nqrust.agent.vms.service import VmService
from nqrust.contract.agent import VmStatus
from nqrust.contract.vms import GuestUser


async def test_search_that_finds_nothing_ends_the_request() -> None:
    verbs = Verbs(threads=1)
    with pytest.raises(RuntimeError):
        await asyncio.wait_for(verbs.on_vm("a", lambda: next(iter(()))), 5)
    assert await asyncio.wait_for(verbs.on_vm("a", lambda: "next"), 5) == "next"


async def test_work_that_can_wait_leaves_a_vm_to_the_request_that_is_at_work() -> None:
    verbs, goes_on = Verbs(threads=2), threading.Event()
    request = asyncio.ensure_future(verbs.on_vm("a", lambda: goes_on.wait(10)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    try:
        assert await asyncio.wait_for(verbs.on_idle_vm("a", lambda: "done"), 2) is None
        assert await asyncio.wait_for(verbs.on_idle_vm("b", lambda: "done"), 2) == "done"
    finally:
        goes_on.set()
        await request
    assert await verbs.on_idle_vm("a", lambda: "done", Verbs(threads=1)) == "done"


def test_image_without_a_free_number_is_refused() -> None:
    passwd = "root:x:0:0:::\n" + "".join(f"a:x:{number}:1:::\n" for number in range(1000, 60_000))
    assert len(passwd) < accounts._LARGEST
    with pytest.raises(Failed, match="no free number"):
        accounts.with_user(passwd, "", None, GuestUser(name="ann"), "/bin/sh")


def test_an_inventory_does_not_wait_for_many_hanging_vmms(monkeypatch: pytest.MonkeyPatch) -> None:
    """The manager waits 10 seconds, and each VMM gets two to answer. Here it takes a tenth of that."""

    def hangs(vm_id: str, scope: object, *, tap: bool) -> VmStatus:
        time.sleep(0.2)
        return VmStatus(id=vm_id, state="running", scope=f"fc-{vm_id}")

    parts: Any = VmService.__new__(VmService)
    parts.scopes, parts.taps = SimpleNamespace(all=dict), SimpleNamespace(all=list)
    parts.store = SimpleNamespace(ids=lambda: [f"v{number}" for number in range(200)])
    parts.observer, parts.host = SimpleNamespace(status=hangs), None
    parts.settings = SimpleNamespace(state_dir="", volumes_dir="")
    monkeypatch.setattr(service.facts, "boot_id", lambda *_: "b")
    monkeypatch.setattr(service.volumes, "kept", lambda *_: [])
    began = time.monotonic()
    assert len(VmService.inventory(parts, None).vms) == 200
    assert time.monotonic() - began < 3  # eight at once took five
