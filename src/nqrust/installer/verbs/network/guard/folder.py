"""The guard's folder: what it saves, and the one file whose name is the decision.

The file is `armed` while the window is open. nqr renames it to `disarmed`, the script to `fired`. rename(2) lets exactly one of
them succeed. The script renames `fired` to `restored` when the old network is back.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from enum import Enum

from nqrust.contract import paths
from nqrust.host.errors import HostError, PathMissing
from nqrust.host.port import Host
from nqrust.installer.supervisor.alarm import Alarm

FOLDER = f"{paths.STATE_DIR}/network-guard"
SCRIPT = f"{FOLDER}/restore"
BEFORE = f"{FOLDER}/before"
"""Files before the change. They can hold secrets, so they go when the decision has been made."""
RECORD = f"{FOLDER}/record.json"
CONFIRM = f"{FOLDER}/confirm"
SEEN = f"{FOLDER}/seen.json"


class State(str, Enum):
    """Names of the decision file. `none`: there is no guard."""

    none = "none"
    armed = "armed"
    disarmed = "disarmed"
    fired = "fired"
    restored = "restored"

    @property
    def path(self) -> str:
        return f"{FOLDER}/{self.value}"


PENDING = (State.armed, State.fired)
ALARM = Alarm(
    "nqrust-network-guard",
    "Puts back the network of this host if nqr does not prove the new one",
    FOLDER,
    SCRIPT,
    tuple(state.path for state in PENDING),
)


@dataclass(frozen=True)
class Record:
    """The armed guard. `window`, `fires_after`: seconds. `armed_at`: the monotonic clock. `pid`, `since`: the process that waits,
    with its start time. `spares`: second names of the files before."""

    link: str
    bridge: str
    gateways: tuple[str, ...]
    window: int
    fires_after: int
    armed_at: float
    pid: int
    since: str
    spares: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    """Proofs so far, from the process that waits. `missing`: gateways that do not answer. `peer`: the machine that connected."""

    missing: tuple[str, ...] = ()
    peer: str = ""
    confirmed: bool = False

    @property
    def proven(self) -> bool:
        return not self.missing and (bool(self.peer) or self.confirmed)


def state(host: Host) -> State:
    """Return the decision. A guard that is both armed and decided was armed again after it: pending counts."""
    order = (State.armed, State.fired, State.disarmed, State.restored)
    return next((one for one in order if host.exists(one.path)), State.none)


def decide(host: Host, became: State) -> bool:
    """Rename the decision file from `armed`. Returns False if somebody else decided first."""
    try:
        host.rename(State.armed.path, became.path)
    except PathMissing:
        return False
    return True


def write_record(host: Host, record: Record) -> None:
    host.write_file(RECORD, json.dumps(asdict(record)).encode(), mode=0o600)


def read_record(host: Host) -> Record | None:
    """Return the record, None if there is none that can be read."""
    try:
        found = json.loads(host.read_text(RECORD))
        return Record(**{**found, "gateways": tuple(found["gateways"]), "spares": tuple(found["spares"])})
    except (HostError, ValueError, TypeError, KeyError):
        return None


def write_seen(host: Host, seen: Seen) -> None:
    """Keep it for `nqr network status`. A full disk is no reason to lose the network."""
    with contextlib.suppress(HostError):
        host.write_file(SEEN, json.dumps(asdict(seen)).encode(), mode=0o600, synced=False)


def read_seen(host: Host) -> Seen | None:
    try:
        found = json.loads(host.read_text(SEEN))
        return Seen(**{**found, "missing": tuple(found["missing"])})
    except (HostError, ValueError, TypeError, KeyError):
        return None


def since(host: Host, pid: int) -> str:
    """Return the start time of a process (proc_pid_stat(5), field 22), empty if it is gone."""
    try:
        return host.read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()[19]
    except (HostError, IndexError):
        return ""
