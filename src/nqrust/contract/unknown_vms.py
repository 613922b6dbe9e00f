"""VMs that a host has without a record, as the manager's API shows them."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from nqrust.contract.vms import NAME_PATTERN


class UnknownVm(BaseModel):
    """A VM that a host has without a record. It is not changed until somebody adopts or deletes it."""

    id: str
    name: str = ""
    host: str
    state: str = Field(description="running | paused | stopped | failed")
    ip: str | None = None
    image: str = ""
    vcpus: int = 0
    memory_mib: int = 0
    recorded_on: str | None = Field(default=None, description="another host that the VM with this id is recorded on")
    first_seen_at: datetime


class UnknownVmList(BaseModel):
    items: list[UnknownVm]
    total: int


class VmAdopt(BaseModel):
    """POST /v1/vms/adopt: create the record of a VM that a host has."""

    id: str = Field(min_length=1, max_length=64, description="id or name of an unknown VM")
    name: str | None = Field(default=None, pattern=NAME_PATTERN, max_length=63, description="a new name; its own when absent")
