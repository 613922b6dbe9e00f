"""How many things users may keep: lists of them go through the manager's memory."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from nqrust.manager.errors import Conflict
from nqrust.manager.store.tables import Image, Template

TEMPLATES, IMAGES = 1000, 500


async def room_for_template(session: AsyncSession) -> None:
    """Raise Conflict if there are as many as allowed. Requests at the same time may make a few more."""
    await _room(session, Template, TEMPLATES, "template")


async def room_for_image(session: AsyncSession) -> None:
    """As for a template. Images that root puts into the image folder are all listed."""
    await _room(session, Image, IMAGES, "image")


async def _room(session: AsyncSession, table: type[Template] | type[Image], most: int, kind: str) -> None:
    if (await session.scalar(select(func.count()).select_from(table)) or 0) >= most:
        raise Conflict(
            f"The manager keeps at most {most} {kind}s.",
            cure=f"Delete those that nobody needs. `nqr {kind} ls` shows them.",
            code="NQR-API-210",
        )
