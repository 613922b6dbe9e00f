"""Kept volumes: disks that outlived the VM they were made for, on the host where they are."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field


class KeptVolume(BaseModel):
    """What a host has in its folder of kept volumes."""

    name: str
    size_mib: int = Field(ge=0)


class StoredVolume(KeptVolume):
    """As the manager lists it. `vm`: the VM that has it attached now; None while nobody does."""

    host: str
    vm: str | None = None
    created_at: datetime = Field(description="when it was first kept, or first seen")


class StoredVolumeList(BaseModel):
    items: list[StoredVolume]
    total: int
