"""Kept volumes: disks that outlived their first VM, on the host where they are."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from nqrust.contract.text import PRINTABLE


class KeptVolume(BaseModel):
    """A file in a host's folder of kept volumes."""

    name: str = Field(max_length=255, pattern=PRINTABLE)
    size_mib: int = Field(ge=0, lt=2**31)


class StoredVolume(KeptVolume):
    """The manager's list entry. `vm`: the VM that has it attached, or None."""

    host: str
    vm: str | None = None
    created_at: datetime = Field(description="when it was first kept, or first seen")


class StoredVolumeList(BaseModel):
    items: list[StoredVolume]
    total: int
