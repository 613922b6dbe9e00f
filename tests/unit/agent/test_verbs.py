"""Verbs end, whatever an image or a guest brings about, and leave their VM to the next one."""

from __future__ import annotations

import asyncio

import pytest

from nqrust.agent.api.app import Verbs
from nqrust.agent.disks import accounts
from nqrust.agent.errors import Failed
from nqrust.contract.vms import GuestUser


async def test_search_that_finds_nothing_ends_the_request() -> None:
    verbs = Verbs(threads=1)
    with pytest.raises(RuntimeError):
        await asyncio.wait_for(verbs.on_vm("a", lambda: next(iter(()))), 5)
    assert await asyncio.wait_for(verbs.on_vm("a", lambda: "next"), 5) == "next"


def test_image_without_a_free_number_is_refused() -> None:
    passwd = "root:x:0:0:::\n" + "".join(f"a:x:{number}:1:::\n" for number in range(1000, 60_000))
    assert len(passwd) < accounts._LARGEST
    with pytest.raises(Failed, match="no number left"):
        accounts.with_user(passwd, "", None, GuestUser(name="ann"), "/bin/sh")
