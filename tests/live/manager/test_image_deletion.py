"""A deletion of an image that is cut off: the image is gone, or there as before."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from nqrust.client import calls
from nqrust.manager.app import prepare
from nqrust.manager.images import registry


class Cut(Exception):
    """The manager is killed here, or its database is lost."""


async def test_an_image_whose_deletion_was_cut_off_does_not_come_back(
    manager: Any, make_image: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = manager.core.settings.image_root
    make_image(root, "second")
    await manager.admin.send(calls.scan_images())

    def killed(*_: Any, **__: Any) -> None:
        raise Cut

    with monkeypatch.context() as patched, pytest.raises(Cut):
        patched.setattr(registry.shutil, "rmtree", killed)
        await registry.delete(manager.core, "second")
    await prepare(manager.core)
    assert [image.name for image in (await manager.admin.send(calls.list_images())).items] == ["tiny"]
    assert os.listdir(root) == ["tiny"]


async def test_an_image_whose_row_stays_keeps_its_folder(manager: Any, make_image: Any) -> None:
    make_image(manager.core.settings.image_root, "second")
    await manager.admin.send(calls.scan_images())

    @asynccontextmanager
    async def lost() -> AsyncIterator[Any]:
        async with manager.core.db.transaction() as session:
            yield session
            raise Cut

    core: Any = SimpleNamespace(db=SimpleNamespace(transaction=lost), settings=manager.core.settings, background=())
    with pytest.raises(Cut):
        await registry.delete(core, "second")
    await prepare(manager.core)
    assert (await manager.admin.send(calls.get_image("second"))).state == "ready"
