"""The image registry: database rows that mirror folders on disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
from typing import Any
from uuid import uuid4

import structlog
from sqlalchemy import func, select
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from nqrust.contract.auth import Role
from nqrust.contract.images import Download, ImageAdd, ImageList, ImageManifest
from nqrust.contract.images import Image as ApiImage
from nqrust.image.folder import PRIVATE
from nqrust.manager import events
from nqrust.manager.clock import now
from nqrust.manager.core import counts
from nqrust.manager.core.core import Core
from nqrust.manager.core.principal import Principal
from nqrust.manager.errors import Conflict, ImageError, NotFound
from nqrust.manager.images import download, folder
from nqrust.manager.images.outgoing import Way
from nqrust.manager.store.tables import Image, Vm

log = structlog.get_logger("nqrust.manager.images")


async def scan(core: Core) -> ImageList:
    """Update the registry from disk: add new folders, check changed ones, mark missing ones."""
    there = await asyncio.to_thread(folder.folders, core.settings.image_root)
    for path in there:
        await asyncio.to_thread(_keep_private, path)
        try:
            manifest = await asyncio.to_thread(folder.read_manifest, path)
            if manifest.name != os.path.basename(path):
                raise ImageError(f"{path} holds an image named {manifest.name}; folder and name must be the same.")
        except ImageError as error:
            log.warning("image skipped", path=path, reason=error.detail)
            continue
        try:
            await check_in(core, manifest.name, path, manifest, managed=True)
        except DataError:  # such as a text with NUL: one image must not keep the manager from starting
            log.warning("image skipped", path=path, reason="its image.json has characters that the database does not take")
    async with core.db.transaction() as session:
        rows = list(await session.scalars(select(Image).where(Image.state != "downloading")))
    for row in rows:
        if row.path and row.path not in there:
            await _recheck(core, row)
    return await list_images(core)


def _keep_private(path: str) -> None:
    """Keep other users out of an image that the manager made. Earlier versions let them in."""
    with contextlib.suppress(OSError):
        found = os.lstat(path)
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() != 0 and stat.S_IMODE(found.st_mode) != PRIVATE:
            os.chmod(path, PRIVATE)


async def clear_broken_downloads(core: Core) -> None:
    """Clear downloads at start: none can be running, so these were interrupted when the manager ended."""
    async with core.db.transaction() as session:
        for row in await session.scalars(select(Image).where(Image.state == "downloading")):
            row.state, row.error = (
                "corrupt",
                "The manager stopped during the download. Delete the image and add it again.",
            )
    await asyncio.to_thread(folder.remove_staging, core.settings.image_root)


async def _recheck(core: Core, row: Image) -> None:
    manifest = ImageManifest.model_validate(row.manifest)
    await check_in(core, row.name, row.path, manifest, managed=row.managed)


async def check_in(core: Core, name: str, path: str, manifest: ImageManifest, managed: bool) -> None:
    """Check the image in a folder, and make or update its row."""
    async with core.db.transaction() as session:
        row = await session.scalar(select(Image).where(Image.name == name))
        checked = row.checked if row else {}
        if row is not None and row.state == "downloading":
            return
    state, error, remembered = await _checked(core, path, manifest, checked)
    try:
        async with core.db.transaction() as session:
            row = await session.scalar(select(Image).where(Image.name == name).with_for_update())
            before = row.state if row else None
            if row is None:
                row = Image(id=str(uuid4()), name=name, created_at=now(), managed=managed, path=path)
                session.add(row)
            row.path, row.state, row.error, row.checked = path, state, error, remembered
            row.manifest = manifest.model_dump(mode="json")
            row.origin, row.digest = manifest.origin, manifest.digest
            if before != state:
                known = f"Image {name} is {state}{': ' + error if error else ''}."
                reason = {"ready": "ImageReady", "missing": "ImageMissing"}.get(state, "ImageCorrupt")
                events.record(session, ("image", row.id, name), reason, known, "info" if state == "ready" else "error")
    except IntegrityError:
        log.info("image came in twice at once", name=name)


async def _checked(core: Core, path: str, manifest: ImageManifest, checked: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """Check a folder, two at a time: each reads gigabytes, in a thread that other work needs too."""
    async with core.checking:
        return await asyncio.to_thread(folder.check, path, manifest, checked)


async def list_images(core: Core) -> ImageList:
    downloads = dict(core.downloads)  # one that ends now must not look ended beside a row from before its end
    async with core.db.reading() as session:
        rows = list(await session.scalars(select(Image).order_by(Image.name)))
    return ImageList(items=[api_image(row, downloads.get(row.id)) for row in rows], total=len(rows))


async def get(core: Core, name: str) -> ApiImage:
    downloads = dict(core.downloads)
    async with core.db.transaction() as session:
        row = await _find(session, name)
    return api_image(row, downloads.get(row.id))


async def add(core: Core, wanted: ImageAdd, way: Way) -> ApiImage:
    """Add an image by `path` (checked at once) or by `url` of an image.json (downloaded in the background).

    `way`: of the download.
    """
    if (wanted.path is None) == (wanted.url is None):
        raise ImageError("An image needs either a path or a url.", cure="Send either path or url.")
    async with core.db.transaction() as session:
        if await session.scalar(select(Image.id).where(Image.name == wanted.name)):
            raise Conflict(f"There is already an image named {wanted.name}.")
        await counts.room_for_image(session)
    if wanted.path is not None:
        await _add_path(core, wanted.name, wanted.path)
    else:
        await _add_url(core, wanted, way)
    return await get(core, wanted.name)


async def _add_path(core: Core, name: str, path: str) -> None:
    if not core.settings.allow_image_paths:
        raise ImageError(
            "The settings do not allow images by path.",
            cure="Set MANAGER_ALLOW_IMAGE_PATHS=true, or add the image by URL.",
            code="NQR-IMG-111",
        )
    roots = [core.settings.image_root, *core.settings.image_path_roots]
    real = await asyncio.to_thread(folder.resolve_allowed, path, roots)
    manifest = await asyncio.to_thread(folder.read_manifest, real)
    state, error, _ = await _checked(core, real, manifest, {})
    if state != "ready":
        raise ImageError(f"The image in {path} is {state}: {error}.")
    await check_in(core, name, real, _of_nobody(manifest), managed=False)


def _of_nobody(manifest: ImageManifest) -> ImageManifest:
    """Return the manifest without the origin that it claims: `nqr run nginx` would take this image for that of the registry."""
    return manifest.model_copy(update={"origin": "", "digest": ""})


async def _add_url(core: Core, wanted: ImageAdd, way: Way) -> None:
    if wanted.sha256 is None:
        raise ImageError("An image from a url needs a sha256.", cure="Give the sha256 of the image.json at that url.")
    assert wanted.url is not None
    manifest = await download.manifest(wanted.url, wanted.sha256, way)
    target = os.path.join(core.settings.image_root, wanted.name)
    if await asyncio.to_thread(os.path.lexists, target):
        raise Conflict(f"{target} is already there.", cure="Register it with POST /v1/images/scan, or remove it first.")
    manifest = _of_nobody(manifest.model_copy(update={"name": wanted.name}))
    await _require_room(core, download.beginning(manifest).total)
    row = Image(
        id=str(uuid4()),
        name=wanted.name,
        path=target,
        managed=True,
        state="downloading",
        error="",
        manifest=manifest.model_dump(mode="json"),
        checked={},
        created_at=now(),
    )
    try:
        async with core.db.transaction() as session:
            session.add(row)
    except IntegrityError as error:
        raise Conflict(f"There is already an image named {wanted.name}.") from error
    core.downloads[row.id] = download.beginning(manifest)
    task = asyncio.create_task(_fetch(core, row, manifest, wanted.url, way), name=fetching(row.id))
    core.background.add(task)
    task.add_done_callback(core.background.discard)


async def _require_room(core: Core, size: int) -> None:
    """Require room for an image of this size in addition to the pending downloads."""
    root = core.settings.image_root
    coming = sum(other.total - other.done for other in core.downloads.values())
    try:
        if await asyncio.to_thread(download.room, root) < size + coming:
            raise download.no_room()
    except OSError as error:
        raise ImageError(f"{root} cannot be read: {error.strerror}.") from error


def fetching(image_id: str) -> str:
    return f"fetch image {image_id}"


async def _fetch(core: Core, row: Image, manifest: ImageManifest, url: str, way: Way) -> None:
    try:
        try:
            async with core.fetching:
                await download.files(url, manifest, row.path, core.downloads[row.id], way)
            error = ""
        except ImageError as failure:
            error = failure.detail.rstrip(".")
        except asyncio.CancelledError:
            error = "the manager was stopped during the download"
        await _fetched(core, row, error)
    finally:
        core.downloads.pop(row.id, None)


async def _fetched(core: Core, row: Image, error: str) -> None:
    async with core.db.transaction() as session:
        known = await session.get(Image, row.id, with_for_update=True)
        if known is None:  # deleted meanwhile
            await drop_folder(core, row.path)
            return
        if error:
            known.state, known.error = "corrupt", error
            message = f"Image {row.name} could not be fetched: {error}."
            events.record(session, ("image", row.id, row.name), "ImageFetchFailed", message, "error")
            return
        known.state = "missing"  # until checked
    await _recheck(core, known)


async def delete(core: Core, name: str) -> None:
    """Delete an image, and its folder if it is in the image folder. Ends its download. Refused while a VM uses it."""
    path = aside = ""
    try:
        async with core.db.transaction() as session:
            row = await _find_unused(session, name)
            await session.delete(row)
            events.record(session, ("image", row.id, row.name), "ImageDeleted", f"Image {name} was deleted.")
            path, task_name, own = row.path, fetching(row.id), row.managed and _in_root(core, row.path)
            await session.flush()
            if own:  # before the commit: a manager that is killed after it must not find the image again
                aside = await asyncio.to_thread(folder.set_aside, path)
    except BaseException:
        if aside:
            os.rename(aside, path)
        raise
    for task in core.background:
        if task.get_name() == task_name:
            task.cancel()
    if own:
        await asyncio.to_thread(shutil.rmtree, aside or path, ignore_errors=True)


async def _find_unused(session: AsyncSession, name: str) -> Image:
    """Return an image that no VM uses, locked."""
    row = await _find(session, name, lock=True)
    users = await session.scalar(select(func.count()).select_from(Vm).where(Vm.image_id == row.id)) or 0
    if users:
        raise Conflict(
            f"Image {name} is used by {users} VM{'s' if users > 1 else ''}.",
            cure="Delete those VMs first.",
            code="NQR-IMG-113",
        )
    return row


async def drop_folder(core: Core, path: str) -> None:
    """Remove an image's folder if it is in the image folder."""
    if _in_root(core, path):
        aside = await asyncio.to_thread(folder.set_aside, path)
        await asyncio.to_thread(shutil.rmtree, aside or path, ignore_errors=True)


def _in_root(core: Core, path: str) -> bool:
    return os.path.dirname(path) == core.settings.image_root


async def blob_path(core: Core, name: str, file: str, host_id: str | None = None) -> tuple[str, str]:
    """Return (path, sha256) of a file in the image's manifest. Raises NotFound for any other.

    `host_id`: of the host that asks. It has a VM of the image: others may be private, and the host may be in a stranger's hands."""
    async with core.db.transaction() as session:
        row = await _find(session, name)
        wanted = select(Vm.id).where(Vm.host_id == host_id, Vm.image_id == row.id).limit(1)
        if host_id is not None and await session.scalar(wanted) is None:
            raise NotFound(f"There is no image {name}.", cure="`nqr image ls` shows the images.")
    manifest = ImageManifest.model_validate(row.manifest)
    for blob in folder.blobs(manifest):
        if blob.file == file and row.state == "ready":
            path = os.path.join(row.path, file)
            if await asyncio.to_thread(folder.is_plain_file, path):
                return path, blob.sha256
    raise NotFound(f"Image {name} has no file {file}.")


async def _find(session: AsyncSession, name: str, lock: bool = False) -> Image:
    query = select(Image).where(Image.name == name)
    row = await session.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise NotFound(f"There is no image {name}.", cure="`nqr image ls` shows the images.")
    return row


def shown_to(who: Principal, image: ApiImage) -> ApiImage:
    """Return what this sender may see of an image. An image of a private registry can have secrets in its variables."""
    process = image.manifest.process
    if who.may(Role.operator) or process is None:
        return image
    manifest = image.manifest.model_copy(update={"process": process.model_copy(update={"env": []})})
    return image.model_copy(update={"manifest": manifest})


def api_image(row: Image, progress: Download | None) -> ApiImage:
    manifest = ImageManifest.model_validate(row.manifest)
    return ApiImage(
        id=row.id,
        name=row.name,
        description=manifest.description,
        arch=manifest.arch,
        size=manifest.rootfs.size,
        sha256=manifest.rootfs.sha256,
        state=row.state,
        error=row.error,
        min_memory_mib=manifest.min_memory_mib,
        min_disk_mib=manifest.min_disk_mib,
        created_at=manifest.created_at,
        origin=manifest.origin,
        digest=manifest.digest,
        manifest=manifest,
        download=progress,
    )
