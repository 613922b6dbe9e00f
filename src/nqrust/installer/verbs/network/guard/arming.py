"""Arm the guard before the first byte changes, and take it away after the proof."""

from __future__ import annotations

import contextlib
import posixpath

from nqrust.contract import paths
from nqrust.host.errors import HostError
from nqrust.host.port import Host, command
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.supervisor.alarm import Alarms
from nqrust.installer.verbs.network.guard import folder
from nqrust.installer.verbs.network.guard.change import FileChange, NetworkChange
from nqrust.installer.verbs.network.guard.folder import ALARM, BEFORE, FOLDER, PENDING, SCRIPT, Record, State
from nqrust.installer.verbs.network.guard.script import restore_script, spare_name, spares

WINDOW = 120
"""Seconds until the network is either proven or back."""
_LONGEST_RESTORE = 30
"""Seconds for the way back with commands of a network manager that hang (script.py). The shortest window in the settings is
twice as long."""
UNDECIDED = "NQR-NET-141"
UNDECIDED_WHAT = "Another change of this host's network is not decided yet."
UNDECIDED_CURE = (
    "It is decided within the window (120 s by default), and `nqr network status` shows it. Then run the same command again."
)


def fires_after(window: int) -> int:
    """Return the seconds after which the guard fires. The rest of the window is for the way back."""
    return max(window - _LONGEST_RESTORE, window // 2)


def arm(host: Host, change: NetworkChange, alarms: Alarms, *, pid: int, window: int = WINDOW) -> Record:
    """Save what the change replaces, and start the alarm. `pid`: the process that will wait. `window`: seconds.

    Raises StepFailed NQR-NET-141 if another change is guarded, NQR-NET-142 if the guard cannot be armed. Nothing of the network
    changes in both cases.
    """
    if folder.state(host) in PENDING:
        raise StepFailed(UNDECIDED, UNDECIDED_WHAT, UNDECIDED_CURE)
    try:
        forget(host, alarms)
        record = Record(
            change.link, change.bridge, change.gateways, window, fires_after(window), host.monotonic(), pid,
            folder.since(host, pid), spares(change.files),
        )  # fmt: skip
        _save(host, change, alarms, record)
        alarms.set(host, ALARM, record.fires_after)
        host.write_file(State.armed.path, b"", mode=0o600)
    except HostError as error:
        with contextlib.suppress(HostError):
            _take_away(host, alarms)
        raise StepFailed(
            "NQR-NET-142",
            f"The guard of the network cannot be armed, so nothing was changed: {str(error).rstrip('.')}.",
            "Fix this cause, then run the same command again.",
        ) from error
    return record


def disarm(host: Host, alarms: Alarms) -> bool:
    """Keep the new network. Returns False if the guard fired first."""
    if not folder.decide(host, State.disarmed):
        return False
    # The decision stands. The script removes what a failure leaves here, when its alarm goes off.
    with contextlib.suppress(HostError):
        _take_away(host, alarms)
    return True


def forget(host: Host, alarms: Alarms) -> None:
    """Remove a guard that is decided, with all it saved. Does nothing to a guard that is not decided."""
    if folder.state(host) in PENDING or not host.exists(FOLDER):
        return
    if host.exists(SCRIPT) and host.which("flock") is not None:
        # The script holds a lock on itself until it has removed its alarm, which could be the next one otherwise.
        host.run(command("flock", SCRIPT, "true"))
    _take_away(host, alarms)


def _take_away(host: Host, alarms: Alarms) -> None:
    record = folder.read_record(host)
    alarms.clear(host, ALARM)
    for path in record.spares if record else ():
        host.remove(path)
    host.remove_tree(FOLDER)


def _save(host: Host, change: NetworkChange, alarms: Alarms, record: Record) -> None:
    if not host.exists(paths.STATE_DIR):
        host.mkdir(paths.STATE_DIR, mode=0o711)
    host.mkdir(FOLDER, mode=0o700)
    folder.write_record(host, record)
    script = restore_script(
        change,
        bridge_was_there=host.exists(f"/sys/class/net/{change.bridge}"),
        folders=missing_folders(host, change.files),
        tidy=alarms.tidy(ALARM),
    )
    # The script is first. It also removes the rest, if nqr is killed before the guard is armed.
    host.write_file(SCRIPT, script.encode(), mode=0o700)
    host.mkdir(BEFORE, mode=0o700)
    for number, one in enumerate(change.files):
        if one.before is None:
            continue
        _write(host, f"{BEFORE}/{number}", one, one.before)
        # Not every file system has hard links. The script then copies.
        host.run(command("ln", "-f", "--", one.path, spare_name(one.path), ok=(0, 1)))


def missing_folders(host: Host, files: tuple[FileChange, ...]) -> tuple[str, ...]:
    """Return the folders that the new files need and that are not there, parents first."""
    found: list[str] = []
    for one in files:
        path = posixpath.dirname(one.path)
        missing: list[str] = []
        while one.after is not None and path != "/" and not host.exists(path):
            missing.insert(0, path)
            path = posixpath.dirname(path)
        found += [path for path in missing if path not in found]
    return tuple(found)


def write_new_files(host: Host, change: NetworkChange) -> None:
    """Write the files of the change, each with the mode and owner that it had. Raises HostError."""
    for path in missing_folders(host, change.files):
        host.mkdir(path)
    for one in change.files:
        if one.after is None:
            host.remove(one.path)
        else:
            _write(host, one.path, one, one.after)


def _write(host: Host, path: str, one: FileChange, data: bytes) -> None:
    host.write_file(path, data, mode=one.mode, owner=str(one.uid), group=str(one.gid), xattrs=dict(one.xattrs))
