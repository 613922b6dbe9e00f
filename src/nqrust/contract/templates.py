"""Templates: named settings of VMs. A VM takes a copy; later changes of the template do not change it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field

from nqrust.contract.vms import NAME_PATTERN, EmptyVolume, GuestAccount, Tag, VmSized


def _without_password(given: Any) -> Any:
    hashed = given.get("password_hash") if isinstance(given, dict) else getattr(given, "password_hash", None)
    if hashed is not None:
        raise ValueError("a template keeps no passwords; name the user with its password_hash when you create the VM")
    return given


Account = Annotated[GuestAccount, BeforeValidator(_without_password)]
"""An account with keys. A password is refused, not ignored: the account would have none."""


class TemplateSpec(VmSized):
    """The fields of `VmCreate` that several VMs can share. No secrets: accounts have keys and no passwords here."""

    tags: list[Tag] = Field(default=[], max_length=32)
    description: str = Field(default="", max_length=256)
    image: str = Field(min_length=1, max_length=128)
    disk_mib: int | None = Field(default=None, ge=16, description="the image's own size when absent")
    ssh_keys: list[str] = Field(default=[], max_length=32)
    volumes: list[EmptyVolume] = Field(default=[], max_length=8)
    users: list[Account] = Field(default=[], max_length=8)


class TemplateCreate(TemplateSpec):
    name: str = Field(pattern=NAME_PATTERN, max_length=63)


class Template(TemplateCreate):
    tags: list[str] = Field(default=[], max_length=32)
    created_at: datetime
    updated_at: datetime


class TemplateList(BaseModel):
    items: list[Template]
    total: int
