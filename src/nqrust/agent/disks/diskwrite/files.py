"""Single files and folders of a mounted tree, with errors that name them."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Iterator, Sequence

from nqrust.agent.disks.diskwrite.confined import Tree
from nqrust.agent.disks.diskwrite.document import GuestFile
from nqrust.agent.disks.guest_paths import parents
from nqrust.agent.errors import Failed


@contextlib.contextmanager
def writing(path: str) -> Iterator[None]:
    """Raise Failed (NQR-IMG-103) in place of OSError."""
    try:
        yield
    except OSError as error:
        raise Failed(
            "NQR-IMG-103",
            f"{path} does not fit or cannot be written to the VM's disk ({error.strerror}).",
            "Give the VM a larger disk, or correct the image.",
        ) from error


def look(tree: Tree, files: Sequence[GuestFile]) -> None:
    """Raise Failed before any write if one of `files` cannot be created."""
    for file in files:
        for path in parents(file.path):
            with writing(path):
                if not tree.is_folder(path):
                    break


def write(tree: Tree, files: Sequence[GuestFile]) -> None:
    for file in files:
        for path in parents(file.path):
            ssh = posixpath.basename(path) == ".ssh"
            owned_folder(
                tree, path, mode=0o700 if ssh else 0o755, uid=file.uid if ssh else 0, gid=file.gid if ssh else 0, always=ssh
            )
        with writing(file.path):
            tree.write(file.path, file.content.encode(), mode=file.mode, uid=file.uid, gid=file.gid)


def owned_folder(tree: Tree, path: str, *, mode: int, uid: int = 0, gid: int = 0, always: bool = False) -> None:
    """Ensure a folder at `path`. A new one, and with `always` an existing one, gets mode and owner."""
    with writing(path):
        if not tree.is_folder(path):
            tree.make_folder(path, mode=mode, uid=uid, gid=gid)
        elif always:
            tree.set_access(path, mode=mode, uid=uid, gid=gid)
