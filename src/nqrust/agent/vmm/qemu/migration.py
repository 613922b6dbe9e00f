"""Save and load memory and devices of a QEMU guest: a migration to and from a file.

    memory    the migration stream
    board     the machine type of the snapshot, with its version: `q35` alone is a different board in the next QEMU
    guest     there if the machine has the port of the guest agent: the machine that loads the memory must have it too
    plain     there if its TAP has no virtio-net header. QEMU loads the memory of a machine with one into no other

The agent opens the file and passes it over the monitor. QEMU's sandbox stays unchanged: it starts no program and needs no
new path. https://www.qemu.org/docs/master/devel/migration/main.html
"""

from __future__ import annotations

import os
import re
import time
from typing import Any

from nqrust.agent.errors import Failed
from nqrust.agent.vmm.qemu.arguments import guest_socket, qmp_socket
from nqrust.agent.vmm.qemu.qmp import Qmp, QmpError, QmpGone
from nqrust.contract.names import tap_name
from nqrust.host import tun
from nqrust.host.errors import HostError
from nqrust.host.port import Host

_LONGEST = 600.0  # seconds for all of a guest's memory
_UNTHROTTLED = 1 << 40  # bytes a second
_BOARD = re.compile(r"[a-z0-9.-]{1,64}")


def board(host: Host, folder: str) -> str:
    """Return the machine type that the snapshot in `folder` needs. Raises Failed."""
    try:
        found = host.read_text(f"{folder}/board").strip()
    except HostError as error:
        raise _failed(f"{folder}/board cannot be read") from error
    if not _BOARD.fullmatch(found):
        raise _failed(f"{folder}/board names no machine type")
    return found


def has_guest_port(host: Host, folder: str) -> bool:
    """Return whether the machine of the snapshot in `folder` has the port of the guest agent."""
    return host.exists(f"{folder}/guest")


def has_header(host: Host, folder: str) -> bool:
    """Return whether the TAP of the machine in `folder` has a virtio-net header."""
    return not host.exists(f"{folder}/plain")


def save(host: Host, directory: str, folder: str) -> None:
    """Write the paused guest into `folder`. It stays paused, its disks complete and at rest. Raises Failed.

    QEMU does not save a machine twice in a row: a guest that was not resumed since the last save must run for an instant.
    """
    try:
        with Qmp(qmp_socket(directory)) as qmp:
            if qmp.ask("query-status").get("status") == "postmigrate":
                qmp.execute("cont")
                qmp.execute("stop")
            name = str(qmp.execute("qom-get", path="/machine", property="type")).removesuffix("-machine")
            qmp.execute("migrate-set-parameters", **{"max-bandwidth": _UNTHROTTLED})
        host.write_file(f"{folder}/board", f"{name}\n".encode(), mode=0o600)
        if host.exists(guest_socket(directory)):
            host.write_file(f"{folder}/guest", b"", mode=0o600)
        # Where nobody knows, the machine counts as one with the header, which loads either memory.
        if tun.has_header(host, tap_name(os.path.basename(directory))) is False:
            host.write_file(f"{folder}/plain", b"", mode=0o600)
        descriptor = os.open(f"{folder}/memory", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with Qmp(qmp_socket(directory)) as qmp:
                qmp.give("memory", descriptor)
                qmp.execute("migrate", uri="fd:memory")
            _wait_until_saved(directory)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except (QmpError, OSError) as error:
        raise _failed(str(error)) from error


def load(directory: str, folder: str) -> None:
    """Load the memory saved in `folder` into the waiting QEMU. The guest stays paused. Raises Failed."""
    try:
        descriptor = os.open(f"{folder}/memory", os.O_RDONLY | os.O_CLOEXEC)
        try:
            with Qmp(qmp_socket(directory)) as qmp:
                qmp.give("memory", descriptor)
                qmp.execute("migrate-incoming", uri="fd:memory")
        finally:
            os.close(descriptor)
        _wait_until_loaded(directory)
    except (QmpError, OSError) as error:
        raise _failed(str(error)) from error


def _wait_until_saved(directory: str) -> None:
    deadline = time.monotonic() + _LONGEST
    while (status := _asked(directory, "query-migrate", deadline).get("status")) != "completed":
        if status in ("failed", "cancelled"):
            raise QmpError(f"the migration {status}")
        if time.monotonic() > deadline:
            with Qmp(qmp_socket(directory)) as qmp:
                qmp.execute("migrate_cancel")
            raise QmpError("it did not end in time")
        time.sleep(0.05)


def _wait_until_loaded(directory: str) -> None:
    deadline = time.monotonic() + _LONGEST
    while _asked(directory, "query-status", deadline).get("status") == "inmigrate":
        if time.monotonic() > deadline:
            raise QmpError("it did not end in time")
        time.sleep(0.05)


def _asked(directory: str, what: str, deadline: float) -> dict[str, Any]:
    """Poll QEMU, which sends nothing during a migration. The wait ends if QEMU is gone."""
    while True:
        try:
            with Qmp(qmp_socket(directory)) as qmp:
                return qmp.ask(what)
        except QmpError as error:
            if isinstance(error, QmpGone) or time.monotonic() > deadline:
                raise


def _failed(why: str) -> Failed:
    return Failed(
        "NQR-VMM-116",
        f"QEMU could not save or load the VM's memory ({why}).",
        "Read the VM's console.log on its host, or stop the VM and take the snapshot again.",
        status=422,
    )
