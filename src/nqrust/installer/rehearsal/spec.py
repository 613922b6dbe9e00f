"""Input for the process that creates the clone, as JSON on standard input. It may contain secrets, so it is never in argv."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal

CONTROL = "/run/nqr-rehearsal"
"""Folder in the clone with the socket for its reports."""
GATEWAY, RESOLVER = "169.254.77.2", "169.254.77.3"
"""Addresses in slirp4netns(1)'s network: the clone's gateway, and a resolver for hosts whose own resolver is on loopback."""
MTU = 65520  # of the card; slirp4netns accepts at most 65521


@dataclass(frozen=True)
class CloneMount:
    """A file system of the host in the clone. `overlay`: the clone writes to its own layer; `bind`: read-only."""

    path: str
    form: Literal["overlay", "bind"]
    fstype: str = ""


@dataclass(frozen=True)
class Uplink:
    """The clone's network card. It has the name and addresses (CIDR) of the host's card, so that settings with them stay
    valid."""

    name: str = "host0"
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Work:
    """The clone's work: the installer's argv (a Python of the host) with environment and working directory. `limit` in
    seconds."""

    argv: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    cwd: str = "/"
    limit: float = 3600.0


@dataclass(frozen=True)
class CloneSpec:
    """`parent`: the process whose end ends the clone. `scratch`: an empty folder of the host. `memory_mib`: size of the tmpfs
    for writes; 0 if the scratch folder holds them. `boot`: systemd is PID 1 in the clone. `connected`: the clone gets a way out."""

    parent: int
    scratch: str
    memory_mib: int
    boot: bool
    connected: bool
    hostname: str
    mounts: tuple[CloneMount, ...]
    uplink: Uplink
    resolver: str  # content of the clone's resolv.conf
    refused: tuple[str, ...]  # addresses of the host, unreachable from the clone
    loopback_resolver: str  # the host's own resolver behind RESOLVER, or ""
    masked: tuple[str, ...]
    wanted: tuple[str, ...]
    distro: str  # id, or "" if unknown
    python: tuple[str, ...]  # argv that starts Python with nqr's modules; `-m`-like code is added
    work: Work

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> CloneSpec:
        """Return the parsed spec. Raises ValueError, KeyError, TypeError: the text always comes from nqr."""
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
