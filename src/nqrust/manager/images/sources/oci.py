"""Images of containers from a registry. `distribution` fetches them, or skopeo where an administrator's registry is behind a proxy.
A process of its own unpacks, and `tiny` lends its kernel."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar
from urllib.request import getproxies, proxy_bypass

from pydantic import ValidationError
from sqlalchemy import select

import nqrust
from nqrust import loopback
from nqrust.contract.images import ImageManifest, ImagePull
from nqrust.host.errors import HostError
from nqrust.host.own_files import OwnFiles
from nqrust.host.port import Host, command
from nqrust.host.secret import Secret
from nqrust.image import errors
from nqrust.image import folder as image_folder
from nqrust.image.oci import reference, skopeo
from nqrust.image.oci.__main__ import Order, Told
from nqrust.manager.core.core import Core
from nqrust.manager.errors import ImageError
from nqrust.manager.images import download, folder
from nqrust.manager.images.outgoing import Way
from nqrust.manager.images.sources import distribution
from nqrust.manager.images.sources.port import Planned, Progress
from nqrust.manager.store.tables import Image

T = TypeVar("T")
BASE = "tiny"
_SECONDS = 3600.0
_EVERY = 0.5


class Oci:
    def plan(self, wanted: ImagePull) -> Planned:
        try:
            parsed = reference.parse(wanted.reference)
        except errors.ImageError as error:
            raise translated(error) from error
        return Planned(str(parsed), parsed.image_name)

    async def fetch(
        self, core: Core, wanted: ImagePull, planned: Planned, name: str, target: str, way: Way, tell: Progress
    ) -> ImageManifest:
        parsed = reference.parse(planned.origin)
        base = await _base(core)
        stop = threading.Event()
        host = OwnFiles(stop=stop)
        root = core.settings.image_root
        scratch = await asyncio.to_thread(tempfile.mkdtemp, prefix=folder.STAGING_PREFIX, dir=root)
        try:
            if way.local and _proxied(parsed, wanted.tls_verify):
                layout = await _until_cancelled(stop, _with_skopeo(host, parsed, wanted, scratch, root, tell))
            else:
                layout = await distribution.copy(parsed, scratch, wanted.login, wanted.tls_verify, tell, way)
            order = Order(
                source=layout,
                scratch=f"{scratch}/build",
                target_dir=target,
                name=name,
                origin=planned.origin,
                base=base[0],
                base_manifest=base[1],
                guest_agent=core.settings.guest_agent,
            )
            return await _until_cancelled(stop, asyncio.to_thread(_build, host, order, tell))
        except errors.ImageError as error:
            raise translated(error) from error
        except (HostError, OSError) as error:
            raise ImageError(f"The image could not be written: {error}.") from error
        finally:
            await asyncio.to_thread(_clear, host, scratch, target)


def _clear(host: Host, scratch: str, target: str) -> None:
    shutil.rmtree(scratch, ignore_errors=True)
    with contextlib.suppress(HostError):
        image_folder.tidy(host, target)


async def _until_cancelled(stop: threading.Event, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of work in a thread. If the pull is cancelled, `stop` ends the program that runs there. This waits for the
    end of the thread, because other work needs threads, and other pulls need the place of this one."""
    running = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()
        raise


def _proxied(parsed: reference.Reference, tls_verify: bool) -> bool:
    """Return whether the manager's environment names a proxy for this registry."""
    if loopback.is_local(parsed.host):
        return False
    proxies = getproxies()
    named = proxies.get("https") or (not tls_verify and proxies.get("http"))
    return bool(named) and not proxy_bypass(parsed.registry)


def translated(error: errors.ImageError) -> ImageError:
    return ImageError(error.what, cure=error.cure, code=error.code)


async def _base(core: Core) -> tuple[str, ImageManifest]:
    async with core.db.transaction() as session:
        row = await session.scalar(select(Image).where(Image.name == BASE, Image.state == "ready"))
    if row is None:
        raise ImageError(
            f"The image {BASE} is not ready. Container images take their kernel from it.",
            cure="Build it on the manager's host: nqr image build tiny",
            code="NQR-IMG-044",
        )
    return row.path, ImageManifest.model_validate(row.manifest)


async def _with_skopeo(
    host: Host, parsed: reference.Reference, wanted: ImagePull, scratch: str, root: str, tell: Progress
) -> str:
    if wanted.login is not None:
        login = skopeo.login_file(parsed, wanted.login.username, Secret(wanted.login.password))
        await asyncio.to_thread(host.write_file, f"{scratch}/login.json", login.reveal().encode(), mode=0o600)
    layout = await _copy(host, parsed, scratch, wanted.tls_verify, root, tell)
    await asyncio.to_thread(host.remove, f"{scratch}/login.json")
    return layout


async def _copy(host: Host, parsed: reference.Reference, scratch: str, tls_verify: bool, root: str, tell: Progress) -> str:
    """Fetch the layout while its growing folder tells the progress. Refuses it first if the disk is too small."""
    tell("asking the registry", 0, 0)
    total = await asyncio.to_thread(skopeo.total, host, parsed, scratch, tls_verify=tls_verify)
    if total and await asyncio.to_thread(download.room, root) < total:
        raise download.no_room()
    copying = asyncio.create_task(asyncio.to_thread(skopeo.copy, host, parsed, scratch, tls_verify=tls_verify))
    while not copying.done():
        await asyncio.wait([copying], timeout=_EVERY)
        tell("fetching the layers", await asyncio.to_thread(_size, f"{scratch}/layout"), total)
    return await copying


def _size(place: str) -> int:
    return sum(_length(os.path.join(top, name)) for top, _, names in os.walk(place) for name in names)


def _length(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def _build(host: Host, order: Order, tell: Progress) -> ImageManifest:
    """Run the builder. Raises image.errors.ImageError, HostError."""
    last = Told()

    def heard(line: str) -> None:
        nonlocal last
        try:
            last = Told.model_validate_json(line)
        except ValidationError:
            return
        if last.step:
            tell(f"{last.step} ({(last.fraction or 0.0):.0%})", 0, 0)

    place = os.path.dirname(os.path.dirname(os.path.abspath(nqrust.__file__)))
    host.run(
        command(
            sys.executable,
            "-m",
            "nqrust.image.oci",
            input=order.model_dump_json().encode(),
            env={"PYTHONPATH": place},
            timeout=_SECONDS,
        ),
        on_line=heard,
    )
    if last.manifest is not None:
        return last.manifest
    if last.code:
        raise errors.ImageError(last.code, last.what, last.cure)
    raise HostError("the program that unpacks the layers ended without an answer")
