"""What was there before a transaction and goes with the purge of its packages all the same: Debian 13's `locales` removes
locale.conf(5), whoever wrote it. It is looked at before the purge and put back after it."""

from __future__ import annotations

import base64
import posixpath
from typing import Any

from nqrust.host.port import Host, Kind
from nqrust.installer.engine.undo import traces

_LIMIT = 1 << 20  # bytes of a file; what is named in maintainer scripts is configuration


def look(host: Host, before: dict[str, Any], scripts: str, listed: frozenset[str]) -> dict[str, Any]:
    """Path -> what is there now, of all that was there `before` and that packages list or their scripts name: files and
    symbolic links. JSON values only."""
    found: dict[str, Any] = {}
    for path in sorted((traces.named(scripts) | listed) & set(before["paths"])):
        stat = host.stat(path)
        if stat is None:
            continue
        if stat.kind is Kind.symlink:
            found[path] = {"target": host.readlink(path)}
        elif stat.kind is Kind.file and stat.size <= _LIMIT:
            found[path] = {
                "content": base64.b64encode(host.read_bytes(path)).decode(),
                "mode": stat.mode,
                "owner": stat.owner,
                "group": stat.group,
                "xattrs": {name: base64.b64encode(value).decode() for name, value in host.xattrs(path).items()},
            }
    return found


def put_back(host: Host, found: dict[str, Any]) -> None:
    """What of it is gone comes back; what is there is left alone. Safe to repeat."""
    for path, row in found.items():
        if host.stat(path) is not None or host.stat(posixpath.dirname(path)) is None:
            continue
        if "target" in row:
            host.symlink(row["target"], path)
        else:
            xattrs = {name: base64.b64decode(value) for name, value in row["xattrs"].items()}
            content = base64.b64decode(row["content"])
            host.write_file(path, content, mode=row["mode"], owner=row["owner"], group=row["group"], xattrs=xattrs)
