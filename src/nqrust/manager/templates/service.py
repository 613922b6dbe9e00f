"""Templates: named settings of VMs. A VM copies them at creation."""

from __future__ import annotations

from pydantic import ValidationError
from sqlalchemy import Text, cast, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from nqrust.contract.templates import Template as ApiTemplate
from nqrust.contract.templates import TemplateCreate, TemplateList, TemplateSpec
from nqrust.contract.text import first_fault
from nqrust.contract.vms import VmCreate
from nqrust.manager import events
from nqrust.manager.clock import now
from nqrust.manager.core import counts, keys
from nqrust.manager.core.core import Core
from nqrust.manager.errors import Conflict, Invalid, NotFound
from nqrust.manager.store.tables import Image, Template

PAGE, PAGE_CHARACTERS = 1000, 1 << 20
"""The most of a list in one answer."""


async def listed(core: Core, limit: int, offset: int) -> TemplateList:
    """Return a page of the templates by name: at least one, and of long ones fewer than `limit`. `total` counts all."""
    sizes = select(Template.name, func.length(cast(Template.spec, Text))).order_by(Template.name).limit(limit).offset(offset)
    async with core.db.reading() as session:
        total = await session.scalar(select(func.count()).select_from(Template)) or 0
        names: list[str] = []
        left = PAGE_CHARACTERS
        for name, size in await session.execute(sizes):
            if names and size > left:
                break
            names.append(name)
            left -= size
        rows = await session.scalars(select(Template).where(Template.name.in_(names)).order_by(Template.name))
        return TemplateList(items=[_shown(row) for row in rows], total=total)


async def get(core: Core, name: str) -> ApiTemplate:
    async with core.db.transaction() as session:
        return _shown(await _found(session, name))


async def create(core: Core, wanted: TemplateCreate, actor: str) -> ApiTemplate:
    """Create a template. Raises Conflict if the name is taken or there are too many, NotFound if there is no such image."""
    spec = TemplateSpec.model_validate(wanted.model_dump(exclude={"name"}))
    async with core.db.transaction() as session:
        await _check(session, spec)
        await counts.room_for_template(session)
        row = await session.scalar(
            insert(Template)
            .values(name=wanted.name, spec=spec.model_dump(mode="json"))
            .on_conflict_do_nothing()
            .returning(Template)
        )
        if row is None:
            raise Conflict(f"There is already a template {wanted.name}.")
        _told(session, wanted.name, "TemplateCreated", f"Template {wanted.name} was made by {actor}.")
        return _shown(row)


async def replace(core: Core, name: str, spec: TemplateSpec, actor: str) -> ApiTemplate:
    """Replace a template. Existing VMs do not change."""
    async with core.db.transaction() as session:
        row = await _found(session, name, lock=True)
        await _check(session, spec)
        row.spec, row.updated_at = spec.model_dump(mode="json"), now()
        _told(session, name, "TemplateChanged", f"Template {name} was changed by {actor}.")
        return _shown(row)


async def delete(core: Core, name: str, actor: str) -> None:
    async with core.db.transaction() as session:
        await session.delete(await _found(session, name, lock=True))
        _told(session, name, "TemplateDeleted", f"Template {name} was deleted by {actor}.")


async def applied(session: AsyncSession, wanted: VmCreate) -> VmCreate:
    """Return `wanted` with the template's value for every field, and every rate limit, that the request left out.

    Raises NotFound; Invalid, if the two do not fit together or the template is from before a limit.
    """
    if wanted.template is None:
        return wanted
    spec = (await _found(session, wanted.template)).spec
    given = wanted.model_dump(exclude_unset=True)
    given["rate_limits"] = {**spec.get("rate_limits", {}), **given.get("rate_limits", {})}
    try:
        return VmCreate.model_validate({**{k: v for k, v in spec.items() if k != "description"}, **given})
    except ValidationError as error:
        field, said = first_fault(error.errors())
        raise Invalid(
            f"Template {wanted.template} does not give a valid VM: {field or 'it'}: {said}.",
            cure="Name a value of your own for this field, or replace the template.",
        ) from error


async def _check(session: AsyncSession, spec: TemplateSpec) -> None:
    if await session.scalar(select(Image.id).where(Image.name == spec.image)) is None:
        raise NotFound(f"There is no image {spec.image}.", cure="`nqr image ls` shows the images.")
    keys.check(spec.ssh_keys, spec.users)
    if "\0" in spec.description:
        raise Invalid("The description contains NUL.")


async def _found(session: AsyncSession, name: str, lock: bool = False) -> Template:
    row = await session.get(Template, name, with_for_update=True if lock else None)
    if row is None:
        raise NotFound(f"There is no template {name}.", cure="`nqr template ls` shows the templates.")
    return row


def _told(session: AsyncSession, name: str, reason: str, message: str) -> None:
    events.record(session, ("template", name, name), reason, message)


def _shown(row: Template) -> ApiTemplate:
    return ApiTemplate.model_validate({**row.spec, "name": row.name, "created_at": row.created_at, "updated_at": row.updated_at})
