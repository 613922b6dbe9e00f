"""Lists the catalogue of cloud images. The manager imports none: the programs that take a disk apart need users of their own."""

from __future__ import annotations

import asyncio

from nqrust.contract.images import CloudImage, CloudImageList
from nqrust.host.own_files import OwnFiles
from nqrust.image import errors
from nqrust.image.cloud import catalogue
from nqrust.manager.core.core import Core
from nqrust.manager.images.sources.oci import translated


async def listed(core: Core) -> CloudImageList:
    """Return the catalogue of the manager's host, or nqr's own. Raises ImageError."""
    try:
        found = await asyncio.to_thread(_read, core.settings.image_catalogue)
    except errors.ImageError as error:
        raise translated(error) from error
    items = [CloudImage(name=one.name, aliases=one.aliases, description=one.description, image=one.image) for one in found.images]
    return CloudImageList(items=items, total=len(items))


def _read(path: str | None) -> catalogue.Catalogue:
    host = OwnFiles()
    return catalogue.read(host, path if path is not None and host.exists(path) else None)
