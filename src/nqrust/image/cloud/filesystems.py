"""Reads files of a file system that nobody mounted: ext4 with debugfs(8), XFS and Btrfs with GRUB's own drivers (grub-fstest(1)).

Neither leaves the file system through a link. A program per type is an entry in `READERS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from nqrust.host.errors import CommandFailed, CommandTimedOut, OutputTooLong, PathError
from nqrust.host.facts import superblock
from nqrust.image.cloud.sandbox import Sandbox
from nqrust.image.errors import ImageError

_NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.+~-]{0,199}")
_ENTRY = re.compile(r"^/\d+/\d{6}/\d+/\d+/([^/]+)/\d*/$", re.MULTILINE)
_COPY = "copied"


class Reader(Protocol):
    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, without unusual ones. Empty if there is no such folder. Raises HostError."""
        ...

    def read(self, path: str, limit: int) -> bytes | None:
        """Return a file of at most `limit` bytes. None: there is none, it is empty, or it is longer. Raises HostError."""
        ...

    def take(self, path: str, target: str, limit: int) -> bool:
        """Move a copy of a file to `target` of the host, as root's. False as `read`'s None. Raises HostError."""
        ...


@dataclass(frozen=True)
class _Copies:
    sandbox: Sandbox
    part: str
    """Name of the file with the file system, in the sandbox."""

    def read(self, path: str, limit: int) -> bytes | None:
        return self.sandbox.read(_COPY, limit) if self._copied(path, limit) else None

    def take(self, path: str, target: str, limit: int) -> bool:
        if not self._copied(path, limit):
            return False
        self.sandbox.take(_COPY, target, limit)
        return True

    def _copied(self, path: str, limit: int) -> bool:
        self.sandbox.host.remove(self.sandbox.path(_COPY))
        self._copy(path)
        try:
            return 0 < self.sandbox.size(_COPY) <= limit
        except PathError:
            return False

    def _copy(self, path: str) -> None:
        raise NotImplementedError


class Ext4(_Copies):
    @cached_property
    def replayed(self) -> str:
        """`part`, after e2fsck(8) replayed the journal of a machine that was killed: debugfs reads none.

        It also repairs what a boot of the machine repairs. Raises ImageError NQR-IMG-057, HostError.
        """
        try:
            self.sandbox.run("e2fsck", "-p", self.part, ok=(0, 1))  # 1: it repaired something
        except (CommandFailed, CommandTimedOut, OutputTooLong) as error:
            raise ImageError(
                "NQR-IMG-057",
                f"A file system of the image is damaged ({error}).",
                "Shut its machine down and copy the disk again, or repair the file system with e2fsck.",
            ) from error
        return self.part

    def names(self, folder: str) -> list[str]:
        told = self.sandbox.run("debugfs", "-R", f"ls -p {folder}", self.replayed).stdout
        return sorted(name for name in _ENTRY.findall(told) if _NAME.fullmatch(name) and name not in (".", ".."))

    def _copy(self, path: str) -> None:
        self.sandbox.run("debugfs", "-R", f"dump {path} {_COPY}", self.replayed)


class Grub(_Copies):
    def names(self, folder: str) -> list[str]:
        told = self._run("ls", f"(loop0){folder.rstrip('/')}/", ok=(0, 1)).split()
        return sorted(name.rstrip("/") for name in told if _NAME.fullmatch(name.rstrip("/")) and name not in ("./", "../"))

    def _copy(self, path: str) -> None:
        self._run("cp", f"(loop0){path}", _COPY, ok=(0, 1))

    def _run(self, *words: str, ok: tuple[int, ...]) -> str:
        host = self.sandbox.host
        program = next((name for name in ("grub-fstest", "grub2-fstest") if host.which(name)), None)
        if program is None:
            raise ImageError(
                "NQR-IMG-056",
                "The image's root file system is XFS or Btrfs, and this host lacks grub-fstest to read its kernel.",
                "Install grub-common (Debian, Ubuntu) or grub2-tools-extra (RHEL), then run again.",
            )
        return self.sandbox.run(program, self.part, *words, ok=ok).stdout


READERS: dict[str, Callable[[Sandbox, str], Reader]] = {"ext4": Ext4, "xfs": Grub, "btrfs": Grub}
"""Type as in image.json -> its reader."""


def type_of(head: bytes) -> str:
    """Return a type of READERS from the first bytes of a file system, or "". Pure. ext2 and ext3 are read as ext4."""
    found = superblock.parse(head)
    kind = "ext4" if found.type == "ext" else found.type
    return kind if kind in READERS and found.alone else ""


def write_ext4(sandbox: Sandbox, part: str, files: Sequence[tuple[str, bytes, int]], links: Sequence[tuple[str, str]]) -> None:
    """Write files (path, content, mode) and links (path, target) into an ext4 file system, and read the files back.

    Their folders must exist. Raises ImageError NQR-IMG-057, HostError.
    """
    host, owner, reader, lines = sandbox.host, str(sandbox.user), Ext4(sandbox, part), []
    for number, (path, content, mode) in enumerate(files):
        host.write_file(sandbox.path(f"put{number}"), content, mode=0o600, owner=owner, group=owner, synced=False)
        folder, _, name = path.rpartition("/")
        lines += [f"cd {folder}", f"rm {name}", f"write put{number} {name}"]
        lines += [f"set_inode_field {path} mode 0100{mode:o}", f"set_inode_field {path} uid 0", f"set_inode_field {path} gid 0"]
    for path, target in links:
        folder, _, name = path.rpartition("/")
        lines += [f"cd {folder}", f"rm {name}", f"symlink {name} {target}"]
    script = "".join(f"{line}\n" for line in lines)
    host.write_file(sandbox.path("script"), script.encode(), mode=0o600, owner=owner, group=owner, synced=False)
    try:
        sandbox.run("debugfs", "-w", "-f", "script", reader.replayed)
    except CommandFailed as error:
        raise _unwritten(str(error)) from error
    for path, content, _ in files:
        if content and reader.read(path, len(content)) != content:
            raise _unwritten(f"{path} does not fit")


def _unwritten(why: str) -> ImageError:
    return ImageError(
        "NQR-IMG-057", f"The image's root file system cannot be written to ({why}).", "Check the image with its publisher."
    )
