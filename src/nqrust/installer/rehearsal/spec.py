"""What the process that makes the clone is told, as JSON on its standard input: it may hold secrets, so never argv."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal

CONTROL = "/run/nqr-rehearsal"
"""Folder in the clone that holds the socket by which it tells how it goes."""
GATEWAY, RESOLVER = "169.254.77.2", "169.254.77.3"
"""slirp4netns(1) in its network: through the one the clone reaches everything, at the other a resolver that listens on the
host's loopback only."""
MTU = 65520  # of the card; the most that slirp4netns takes is 65521


@dataclass(frozen=True)
class CloneMount:
    """One file system of the host in the clone. `overlay`: writes go to a layer of the clone's own; `bind`: read-only."""

    path: str
    form: Literal["overlay", "bind"]
    fstype: str = ""


@dataclass(frozen=True)
class Uplink:
    """The clone's network card: named and addressed (CIDR) as the host's own, so that settings that name them hold."""

    name: str = "host0"
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Work:
    """What runs in the clone: the installer's argv (a Python of the host) with environment and working directory.
    `limit` in seconds."""

    argv: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    cwd: str = "/"
    limit: float = 3600.0


@dataclass(frozen=True)
class CloneSpec:
    """`parent`: the process without which the clone ends. `scratch`: an empty folder of the host. `memory_mib`: size of
    the tmpfs that takes the writes, 0 when the scratch folder itself does. `boot`: systemd is PID 1 in the clone."""

    parent: int
    scratch: str
    memory_mib: int
    boot: bool
    hostname: str
    mounts: tuple[CloneMount, ...]
    uplink: Uplink
    resolver: str  # content of the clone's resolv.conf
    refused: tuple[str, ...]  # addresses of the host, which the clone cannot reach
    loopback_resolver: str  # the host's own resolver behind RESOLVER, "" when there is none
    masked: tuple[str, ...]
    wanted: tuple[str, ...]
    distro: str  # id, "" when it is not known
    python: tuple[str, ...]  # argv that starts Python with our modules; `-m`-like code is added
    work: Work

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> CloneSpec:
        """Raises ValueError, KeyError, TypeError: only ever read from ourselves."""
        document: dict[str, Any] = json.loads(text)
        work = document.pop("work")
        uplink = document.pop("uplink")
        mounts = tuple(CloneMount(**one) for one in document.pop("mounts"))
        for name in ("masked", "wanted", "python", "refused"):
            document[name] = tuple(document[name])
        return cls(
            **document,
            mounts=mounts,
            uplink=Uplink(uplink["name"], tuple(uplink["addresses"])),
            work=Work(tuple(work["argv"]), work["environment"], work["cwd"], work["limit"]),
        )
