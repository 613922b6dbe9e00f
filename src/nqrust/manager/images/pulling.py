"""Pulls images from their sources in the background. An image that is there stays usable until the new one is complete."""

from __future__ import annotations

import asyncio
import hashlib
import os
from uuid import uuid4

import structlog
from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from nqrust.contract.images import Blob, Download, ImageList, ImageManifest, ImagePull
from nqrust.contract.images import Image as ApiImage
from nqrust.contract.text import shown
from nqrust.manager import events
from nqrust.manager.clock import now
from nqrust.manager.core import counts
from nqrust.manager.core.core import Core
from nqrust.manager.errors import Conflict, ImageError
from nqrust.manager.images import registry
from nqrust.manager.images.outgoing import Way
from nqrust.manager.images.sources.port import Planned, Source
from nqrust.manager.images.sources.registry import choose
from nqrust.manager.store.tables import Image

log = structlog.get_logger("nqrust.manager.images")
_NOTHING = Blob(file="none", size=0, sha256="0" * 64)
_LONGEST_NAME = 64


async def pull(core: Core, wanted: ImagePull, way: Way) -> ApiImage:
    """Begin a pull, or join the one of the same origin. Return the image. Raises ImageError, Conflict.

    `way`: of the downloads.
    """
    source, planned = choose(wanted)
    try:
        async with core.db.transaction() as session:
            row = await _row(session, wanted, planned)
            await session.flush()
    except IntegrityError as error:
        raise Conflict(f"There is already an image named {wanted.name or planned.name}.") from error
    if row.id not in core.downloads:
        core.downloads[row.id] = Download(total=0, step="waiting for other pulls" if core.fetching.locked() else "")
        task = asyncio.create_task(_run(core, row, source, wanted, planned, way), name=registry.fetching(row.id))
        core.background.add(task)
        task.add_done_callback(core.background.discard)
    return await registry.get(core, row.name)


async def find(session: AsyncSession, reference: str, lock: bool = False) -> Image | None:
    """Return the image of a name, or the oldest one that was pulled from that reference. `lock`: it cannot be deleted until the
    transaction ends."""
    named = select(Image).where(Image.name == reference)
    query = [named]
    try:
        planned = choose(ImagePull(reference=reference))[1]
        query.append(select(Image).where(Image.origin == planned.origin).order_by(Image.created_at).limit(1))
    except (ImageError, ValidationError):  # a name that is no reference
        pass
    for one in query:
        row = await session.scalar(one.with_for_update(read=True, key_share=True) if lock else one)
        if row is not None:
            return row
    return None


async def list_found(core: Core, reference: str) -> ImageList:
    """Return the image that `find` finds, or none."""
    downloads = dict(core.downloads)
    async with core.db.transaction() as session:
        row = await find(session, reference)
    items = [registry.api_image(row, downloads.get(row.id))] if row is not None else []
    return ImageList(items=items, total=len(items))


async def _row(session: AsyncSession, wanted: ImagePull, planned: Planned) -> Image:
    """Return the row of the origin, made where there is none."""
    query = select(Image).where(Image.origin == planned.origin).order_by(Image.created_at)
    named = query.where(Image.name == wanted.name) if wanted.name else query
    row = await session.scalar(named.limit(1).with_for_update())
    if row is not None:
        if row.state != "ready":
            row.state = "downloading"
        row.error = ""
        return row
    name = wanted.name or await _free_name(session, planned)
    if await session.scalar(select(Image.id).where(Image.name == name)):
        raise Conflict(f"There is already an image named {name}.", cure="Choose another name for the new one: --name NAME")
    await counts.room_for_image(session)
    row = Image(
        id=str(uuid4()),
        name=name,
        path="",
        managed=True,
        state="downloading",
        error="",
        manifest=_placeholder(name, planned).model_dump(mode="json"),
        checked={},
        origin=planned.origin,
        created_at=now(),
    )
    session.add(row)
    return row


async def _free_name(session: AsyncSession, planned: Planned) -> str:
    """Return the name, or a longer one if an image from elsewhere has it."""
    if not await session.scalar(select(Image.id).where(Image.name == planned.name)):
        return planned.name
    more = hashlib.sha256(planned.origin.encode()).hexdigest()[:8]
    return f"{planned.name[: _LONGEST_NAME - 9].rstrip('.-_')}-{more}"


def _placeholder(name: str, planned: Planned) -> ImageManifest:
    return ImageManifest(name=name, rootfs=_NOTHING, kernel=_NOTHING, created_at=now(), origin=planned.origin)


async def _run(core: Core, row: Image, source: Source, wanted: ImagePull, planned: Planned, way: Way) -> None:
    progress = core.downloads[row.id]
    target = os.path.join(core.settings.image_root, row.name)

    def tell(step: str, done: int, total: int) -> None:
        progress.step = step
        if total:
            progress.done, progress.total = min(done, total), total

    manifest, error = None, ""
    try:
        async with core.fetching:
            manifest = await source.fetch(core, wanted, planned, row.name, target, way, tell)
        await _complete(core, row, target, manifest)
    except ImageError as failure:
        error = f"{failure.detail.rstrip('.')}. {failure.cure.rstrip('.')}"
    except asyncio.CancelledError:
        error = "The manager was stopped during the pull"
    except Exception as failure:
        log.exception("pull went wrong", image=row.name)
        error = f"The manager met an unexpected error ({type(failure).__name__})"
    finally:
        if error:
            await _failed(core, row, error)
        core.downloads.pop(row.id, None)


async def _complete(core: Core, row: Image, target: str, manifest: ImageManifest) -> None:
    async with core.db.transaction() as session:
        known = await session.get(Image, row.id, with_for_update=True)
        if known is None:
            await registry.drop_folder(core, target)
            return
        if known.state == "downloading":
            known.state = "missing"  # until checked
        known.path = target
        message = f"Image {row.name} was pulled from {manifest.origin} ({manifest.digest})."
        events.record(session, ("image", row.id, row.name), "ImagePulled", message)
    await registry.check_in(core, row.name, target, manifest, managed=True)


async def _failed(core: Core, row: Image, error: str) -> None:
    async with core.db.transaction() as session:
        known = await session.get(Image, row.id, with_for_update=True)
        if known is None:
            return
        if known.state == "downloading":
            known.state = "missing"
        known.error = shown(error)  # a registry may have chosen some of its characters
        message = f"Image {row.name} was not pulled: {known.error}."
        events.record(session, ("image", row.id, row.name), "ImageFetchFailed", message, "error")
