"""A change of the host's network, as data: the files, the commands that load them, and the state before."""

from __future__ import annotations

from dataclasses import dataclass

from nqrust.host.facts.nic import PLAIN, Extras, address_words
from nqrust.host.port import Host, Kind
from nqrust.installer.engine.errors import StepFailed


@dataclass(frozen=True)
class FileChange:
    """A file to write or remove. `before` and `after`: content, None for no file. `mode`, `uid` and `gid` belong to the file
    before, or to the new file if there was none. `xattrs`: extended attributes of the file before (xattr(7))."""

    path: str
    before: bytes | None
    mode: int
    uid: int
    gid: int
    after: bytes | None
    xattrs: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True)
class Address:
    """An address of a link, as CIDR. `broadcast` is empty if it has none. `valid` and `preferred`: the seconds that are left of
    its lease or advertisement, None for ever. `peer`: the other end of a point-to-point address, as CIDR. `extras`: its label and
    the like."""

    cidr: str
    broadcast: str = ""
    valid: int | None = None
    preferred: int | None = None
    peer: str = ""
    extras: Extras = PLAIN

    @property
    def words(self) -> tuple[str, ...]:
        """The address as ip(8) takes and shows it."""
        return address_words(self.cidr, self.peer)

    @property
    def family(self) -> str:
        return "-6" if ":" in self.cidr else "-4"


@dataclass(frozen=True)
class Route:
    """A route over one link, as ip-route(8) names its parts. Empty parts are left out. `expires`: the seconds that are left of a
    router's advertisement, None for ever. `protocol`: who made it, empty for the default."""

    family: str  # -4 or -6
    destination: str
    gateway: str = ""
    table: str = "main"
    metric: str = ""
    source: str = ""
    scope: str = ""
    onlink: bool = False
    expires: int | None = None
    protocol: str = ""


@dataclass(frozen=True)
class Rule:
    """A policy rule: the words after `ip rule add`."""

    family: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class LiveState:
    """The network before the change. `device` carries the addresses and routes: the NIC, or the bridge if nqr gives the NIC
    back. `port_of`: the bridge of the NIC, empty if it is in none. `mac` and `mtu` belong to `device`. `accept_ra`: the kernel's
    setting of `device` for router advertisements, empty if it must not be touched."""

    device: str
    mac: str = ""
    mtu: int = 0
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    rules: tuple[Rule, ...] = ()
    dns: tuple[str, ...] = ()
    port_of: str = ""
    accept_ra: str = ""

    @property
    def gateways(self) -> tuple[str, ...]:
        """Next hops of the default routes, each once."""
        return tuple(dict.fromkeys(one.gateway for one in self.routes if one.destination == "default" and one.gateway))


@dataclass(frozen=True)
class NetworkChange:
    """A change. `load`: commands that make the network manager take the new files; `restore`: the old ones; `early`: commands
    at a boot before the manager starts, for files that it generates from others or that systemd has read. `again`: in place of
    `load` where the guard may have made the new bridge with ip(8), empty for the same ones. `gateways`: next hops that must answer
    afterwards. Commands are public: secrets belong into the files."""

    link: str
    bridge: str
    files: tuple[FileChange, ...]
    load: tuple[tuple[str, ...], ...]
    restore: tuple[tuple[str, ...], ...]
    live: LiveState
    gateways: tuple[str, ...]
    early: tuple[tuple[str, ...], ...] = ()
    again: tuple[tuple[str, ...], ...] = ()


def file_change(host: Host, path: str, after: bytes | None, *, mode: int = 0o644) -> FileChange:
    """Return the change of `path` from its present content to `after`. `mode`: for a new file, which root owns.

    Raises StepFailed NQR-NET-145 if there is something other than a regular file.
    """
    found = host.stat(path)
    if found is None:
        return FileChange(path, None, mode, 0, 0, after)
    if found.kind is not Kind.file:
        raise StepFailed(
            "NQR-NET-145",
            f"{path} is not a regular file, so the guard of the network cannot put it back.",
            "Replace it with a regular file, then run the same command again.",
        )
    xattrs = tuple(sorted(host.xattrs(path).items()))
    return FileChange(path, host.read_bytes(path), found.mode, found.uid, found.gid, after, xattrs)
