"""What the UI asks after a dialog, before it acts on the name of a thing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from nqrust.client.errors import Unreachable
from nqrust.ui import still as module


@pytest.mark.parametrize(("ids", "goes_on"), [(["one", "two"], True), (["two"], False), ([], False)])
async def test_only_the_thing_of_the_dialog_is_acted_on(monkeypatch: pytest.MonkeyPatch, ids: list[str], goes_on: bool) -> None:
    told: list[str] = []
    monkeypatch.setattr(module.ui, "notify", lambda text, **_: told.append(text))

    async def fetched() -> Any:
        return SimpleNamespace(items=[SimpleNamespace(id=one) for one in ids])

    assert await module.still("tiny", fetched(), lambda one: one.id == "one") is goes_on
    assert told == ([] if goes_on else ["tiny changed while the dialog was open. Nothing was done: look at it, then try again."])


async def test_nothing_is_done_if_the_manager_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr(module.parts, "failed", told.append)

    async def fetched() -> Any:
        raise Unreachable("http://manager", "no answer")

    assert await module.still("tiny", fetched(), lambda one: True) is False and len(told) == 1
