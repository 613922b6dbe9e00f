"""What the disk helper is asked, and what it answers: one JSON document each way. Content and hashes are secrets."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from nqrust.contract.vms import NAME_PATTERN, GuestUser

LARGEST = 32 << 20
"""Bytes of a request."""
MOUNTED_TYPES = ("xfs", "btrfs")

_PATH = r"^(/[A-Za-z0-9_.][A-Za-z0-9._-]{0,63}){1,8}$"
_ID = r"^[A-Za-z0-9]([A-Za-z0-9-]{0,62}[A-Za-z0-9])?$"
Key = Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]{16,16384}$")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class GuestFile(_Model):
    """A file in the guest. Parents that are missing are made, 0755 root; one that is called .ssh is 0700."""

    path: str = Field(pattern=_PATH)
    content: str = Field(max_length=1 << 20)
    mode: int = Field(ge=0, le=0o777)
    uid: int = Field(default=0, ge=0, lt=1 << 31)
    gid: int = Field(default=0, ge=0, lt=1 << 31)


class Account(GuestUser):
    model_config = ConfigDict(extra="forbid")

    ssh_keys: list[Key] = Field(default=[], max_length=32)


class Network(_Model):
    """The VM's NIC and name: what its image configures networks with is told to use DHCP there."""

    mac: str = Field(pattern=r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$")
    hostname: str = Field(pattern=NAME_PATTERN)


class Request(_Model):
    """`staged`: the disk is still being made (disk.ext4.new). `type`: of the file system, as the image says.
    `network`: None leaves the image's own configuration alone.

    The file system grows to the end of its disk first."""

    vm_id: str = Field(pattern=_ID)
    staged: bool = False
    type: Literal["xfs", "btrfs"]
    files: list[GuestFile] = Field(default=[], max_length=32)
    users: list[Account] = Field(default=[], max_length=32)
    network: Network | None = None


class Answer(_Model):
    """`code` is empty when all was written and is on the disk; otherwise what, cure and status are an AgentError's.
    `network`: what was written for it, for people."""

    code: str = ""
    what: str = ""
    cure: str = ""
    status: int = 200
    network: str = ""
