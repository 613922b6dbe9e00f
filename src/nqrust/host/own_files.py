"""This machine, for a program without privileges."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from nqrust.host.local import LocalHost
from nqrust.host.port import Stat
from nqrust.host.secret import Secret


class OwnFiles(LocalHost):
    """A host whose new files and folders belong to the user of this process, whatever owner is named.

    The manager's unit refuses chown(2) altogether, so nothing changes an owner that is right already.
    """

    def write_file(
        self,
        path: str,
        data: bytes | Secret | Iterator[bytes],
        *,
        mode: int = 0o644,
        owner: str = "",
        group: str = "",
        xattrs: Mapping[str, bytes] | None = None,
        synced: bool = True,
    ) -> None:
        super().write_file(path, data, mode=mode, owner=_user(), group=_group(), xattrs=xattrs, synced=synced)

    def copy_file(
        self,
        source: str,
        target: str,
        *,
        mode: int,
        owner: str = "",
        group: str = "",
        largest: int | None = None,
        keep_free: int = 0,
        seen: Stat | None = None,
    ) -> None:
        owner, group = _user(), _group()
        super().copy_file(source, target, mode=mode, owner=owner, group=group, largest=largest, keep_free=keep_free, seen=seen)

    def mkdir(self, path: str, *, mode: int = 0o755, owner: str = "", group: str = "", synced: bool = True) -> None:
        super().mkdir(path, mode=mode, owner=_user(), group=_group(), synced=synced)


def _user() -> str:
    return str(os.geteuid())


def _group() -> str:
    return str(os.getegid())
