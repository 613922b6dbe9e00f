"""Request and answer of the disk helper: one JSON document each. Content and hashes are secrets."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from nqrust.contract.user_data import LARGEST_USER_DATA
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
    """A file in the guest. Missing parents are created with mode 0755, owned by root; a parent named .ssh gets 0700."""

    path: str = Field(pattern=_PATH)
    content: str = Field(max_length=1 << 20)
    mode: int = Field(ge=0, le=0o777)
    uid: int = Field(default=0, ge=0, lt=1 << 31)
    gid: int = Field(default=0, ge=0, lt=1 << 31)


class Account(GuestUser):
    model_config = ConfigDict(extra="forbid")

    ssh_keys: list[Key] = Field(default=[], max_length=32)


class Network(_Model):
    """The VM's NIC and name, for which the image's network configuration is told to use DHCP.

    `passwords`: some account of the VM has one. It may be none of `users`, which the disk has already.
    """

    mac: str = Field(pattern=r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$")
    hostname: str = Field(pattern=NAME_PATTERN)
    user_data: str = Field(default="", max_length=LARGEST_USER_DATA)
    passwords: bool = False


class Request(_Model):
    """`staged`: the disk is still being created (disk.ext4.new). `type`: the file system type from the image.

    `network`: None leaves the image's own configuration unchanged. The file system first grows to the end of its disk.
    """

    vm_id: str = Field(pattern=_ID)
    staged: bool = False
    type: Literal["xfs", "btrfs"]
    files: list[GuestFile] = Field(default=[], max_length=32)
    users: list[Account] = Field(default=[], max_length=32)
    network: Network | None = None


class Answer(_Model):
    """`code` is empty if everything was written and synced. Otherwise what, cure and status come from an AgentError.

    `network`: a description of the written network configuration.
    """

    code: str = ""
    what: str = ""
    cure: str = ""
    status: int = 200
    network: str = ""
