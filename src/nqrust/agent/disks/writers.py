"""Chooses how to write an identity into a disk, by the type of its file system.

debugfs(8) writes into ext4 files (disks.py). For XFS and Btrfs the root-owned helper mounts the disk in a short-lived process
(diskwrite/).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from pydantic import ValidationError

from nqrust.agent.disks.disks import EXT4, UNUSABLE, Identity, Writer, damaged
from nqrust.agent.disks.diskwrite.document import MOUNTED_TYPES, Account, Answer, GuestFile, Network, Request
from nqrust.agent.errors import AgentError, Failed, Refused
from nqrust.contract.agent import ImageRef
from nqrust.host.errors import CommandFailed, CommandTimedOut, ProgramMissing
from nqrust.host.port import Host, command
from nqrust.host.secret import Secret

_SECONDS = 1600.0  # a little more than the helper's own limit
_STAGED = ".new"


def writer(kind: str, helper: str) -> Writer:
    """Return the writer for file systems of type `kind`. `helper`: path of nqrust-helper. Raises Failed (NQR-IMG-104)."""
    if kind == "ext4":
        return EXT4
    if kind in MOUNTED_TYPES:
        return Mounted(cast(Literal["xfs", "btrfs"], kind), helper)
    raise Failed(
        "NQR-IMG-104", f"Images of type {kind} are not supported.", "Use an image of type ext4, xfs or btrfs.", status=422
    )


def command_line(image: ImageRef) -> str:
    """Return the image's additions to the kernel's command line.

    Without `rootfstype` a kernel tries the types that it knows. An initrd that lacks the module would then not name it.
    """
    if image.rootfs_type == "ext4" or "rootfstype=" in image.cmdline:
        return image.cmdline
    return f"{image.cmdline} rootfstype={image.rootfs_type}".strip()


@dataclass(frozen=True)
class Mounted:
    kind: Literal["xfs", "btrfs"]
    helper: str

    def first(self, host: Host, disk: str, size: int, wanted: int, identity: Identity) -> str:
        if wanted > size:
            host.run(command("truncate", "-s", str(wanted), disk))
        return self.again(host, disk, identity)

    def ready(self, host: Host, disk: str, *, cut_off: bool) -> None:
        """The helper checks each disk before it writes, and its kernel replays the log."""

    def again(self, host: Host, disk: str, identity: Identity) -> str:
        """Rewrite the disk. The helper finds it by the VM's id; `disk` only shows whether it is still being created."""
        request = self._request(disk, identity)
        try:
            told = host.run(
                command(self.helper, "disk-write", input=Secret(request.model_dump_json()), timeout=_SECONDS, ok=(0, 1))
            )
            answer = Answer.model_validate_json(told.stdout)
        except ProgramMissing as error:
            raise Failed(
                "NQR-IMG-107", f"This host cannot write to the VM's disk: {error}.", "Run `nqr install` again.", status=503
            ) from error
        except (CommandFailed, CommandTimedOut) as error:
            raise Failed(
                "NQR-IMG-109",
                f"The VM's disk could not be written to ({error}).",
                "Look into the agent's log and the host's kernel log.",
            ) from error
        except ValidationError as error:
            why = told.stderr.strip().splitlines()[-1:] or ["it told nothing"]
            raise Failed(
                "NQR-IMG-109",
                f"The VM's disk could not be written to (nqrust-helper: {why[0]}).",
                "Look into the agent's log and the host's kernel log.",
            ) from error
        if answer.code == UNUSABLE and not disk.endswith(_STAGED):
            raise damaged(answer.what.partition("(")[2].rpartition(")")[0] or answer.what)
        if answer.code:
            raise AgentError(answer.code, answer.what, answer.cure, status=answer.status)
        return answer.network

    def _request(self, disk: str, identity: Identity) -> Request:
        nic = identity.nic
        try:
            return Request(
                vm_id=identity.vm_id,
                staged=disk.endswith(_STAGED),
                type=self.kind,
                files=[
                    GuestFile(path=path, mode=mode, content=content.reveal())
                    for path, (mode, content) in identity.files().items()
                ],
                users=[Account.model_validate(user.model_dump()) for user in identity.accounts],
                network=Network(mac=nic.mac, hostname=nic.hostname, user_data=nic.user_data, passwords=nic.passwords)
                if nic
                else None,
            )
        except ValidationError:  # its text would contain secrets
            raise Refused("NQR-API-703", "A user, a key or the VM's id has the wrong form.", "Give one key per line.") from None
