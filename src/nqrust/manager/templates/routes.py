"""Templates of VMs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from nqrust.contract.templates import Template, TemplateCreate, TemplateList, TemplateSpec
from nqrust.contract.vms import NAME_PATTERN
from nqrust.manager.access.guards import CoreDep, Operator, Viewer
from nqrust.manager.audit import about
from nqrust.manager.templates import service as templates

router = APIRouter(prefix="/v1/templates", tags=["templates"])
Name = Annotated[str, Path(pattern=NAME_PATTERN, max_length=63)]


@router.get("")
async def list_templates(
    core: CoreDep,
    _: Viewer,
    limit: Annotated[int, Query(ge=1, le=templates.PAGE)] = templates.PAGE,
    offset: Annotated[int, Query(ge=0, lt=2**31)] = 0,
) -> TemplateList:
    """List templates by name, a page at a time. A page of long templates has fewer than `limit`: continue at `offset` plus its length."""
    return await templates.listed(core, limit, offset)


@router.post("", status_code=201)
async def create_template(core: CoreDep, who: Operator, body: TemplateCreate) -> Template:
    about(new=body.name)
    return await templates.create(core, body, who.name)


@router.get("/{name}")
async def get_template(core: CoreDep, _: Viewer, name: Name) -> Template:
    return await templates.get(core, name)


@router.put("/{name}")
async def replace_template(core: CoreDep, who: Operator, name: Name, body: TemplateSpec) -> Template:
    """Replace the whole template. Existing VMs do not change."""
    return await templates.replace(core, name, body, who.name)


@router.delete("/{name}", status_code=204)
async def delete_template(core: CoreDep, who: Operator, name: Name) -> None:
    await templates.delete(core, name, who.name)
