"""The Firecracker driver: started empty in its jail, then put together over its socket."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from nqrust.agent.errors import Failed, Refused
from nqrust.agent.vmm.firecracker import jail
from nqrust.agent.vmm.firecracker.api import (
    API_SOCKET,
    LOG,
    NEW_MEMORY,
    NEW_STATE,
    SAVED_MEMORY,
    SAVED_STATE,
    Api,
    ApiError,
    begin_request,
    boot_requests,
    disk_requests,
    limit_requests,
)
from nqrust.agent.vmm.port import Capabilities, Machine, RunState
from nqrust.contract.guest import VSOCK_PORT
from nqrust.contract.paths import Layout
from nqrust.contract.vms import RateLimits
from nqrust.host.errors import HostError
from nqrust.host.port import Host

_SNAPSHOT = 600.0  # seconds to write or map all of a guest's memory
_READY = 5.0  # seconds for the API socket to come up
_STATES = {"Running": RunState.running, "Paused": RunState.paused, "Not started": RunState.unconfigured}
_EXIT_SIGNALS = {
    status: 128 + number
    for status, number in (
        (148, signal.SIGSYS),
        (149, signal.SIGBUS),
        (150, signal.SIGSEGV),
        (151, signal.SIGXFSZ),
        (154, signal.SIGXCPU),
        (155, signal.SIGPIPE),
        (156, signal.SIGHUP),
        (157, signal.SIGILL),
    )
}
"""Firecracker's FcExitCode."""


class Firecracker:
    name = "firecracker"
    capabilities = Capabilities(elf_kernel=True, snapshot=True, reads_disks_last=True, off_by_reset=True, network_limits=True)
    exit_signals = _EXIT_SIGNALS

    def __init__(self, host: Host, bin_dir: str = Layout().bin_dir) -> None:
        self._host, self._bin_dir = host, bin_dir

    def argv(self, machine: Machine) -> tuple[str, ...]:
        if machine.kernel_elf is None:
            raise Refused(
                "NQR-VMM-107",
                "The image has no uncompressed ELF kernel, which Firecracker needs.",
                "Use an image with `kernel_elf`, or run `nqr install --vmm qemu` on this host.",
            )
        user = str(machine.user)
        return (
            self._program("jailer"),
            *("--id", machine.id),
            *("--exec-file", self._program("firecracker")),
            *("--uid", user, "--gid", user),
            *("--chroot-base-dir", jail.base(machine.directory)),
            *("--", "--api-sock", API_SOCKET),
        )

    def prepare(self, machine: Machine) -> None:
        """Firecracker refuses a socket path that exists, and log files that do not."""
        jail.make(self._host, machine, self._program("firecracker"))

    def mounts(self, machine: Machine) -> tuple[tuple[str, str], ...]:
        return jail.mounts(self._host, machine)

    def appeared(self, directory: str) -> bool:
        return jail.socket_exists(self._host, directory)

    def configure(self, machine: Machine) -> None:
        self._wait(machine)
        with self._api(machine.directory) as api:
            for method, path, body in boot_requests(machine):
                api.send(method, path, body)
        jail.seal_guest(self._host, machine.directory, machine.user)

    def begin(self, machine: Machine) -> None:
        with self._api(machine.directory) as api:
            for method, path, body in () if machine.snapshot else disk_requests(machine):
                api.send(method, path, body)
            api.send(*begin_request(machine))

    def state(self, directory: str) -> RunState:
        try:
            with self._api(directory, timeout=2.0) as api:
                return _STATES.get(str(api.send("GET", "/").get("state", "")), RunState.silent)
        except Failed:
            return RunState.silent

    def shut_down(self, directory: str) -> None:
        """Ctrl-Alt-Del on the emulated keyboard: init reboots, and `reboot=k` ends the VMM."""
        with self._api(directory) as api:
            api.send("PUT", "/actions", {"action_type": "SendCtrlAltDel"})

    def limit(self, directory: str, volumes: int, limits: RateLimits) -> None:
        with self._api(directory) as api:
            for method, path, body in limit_requests(volumes, limits):
                api.send(method, path, body)

    def connect_guest(self, directory: str) -> socket.socket:
        return jail.connect_guest(self._host, directory, VSOCK_PORT)

    def pause(self, directory: str) -> None:
        with self._api(directory) as api:
            api.send("PATCH", "/vm", {"state": "Paused"})

    def resume(self, directory: str) -> None:
        with self._api(directory) as api:
            api.send("PATCH", "/vm", {"state": "Resumed"})

    def snapshot(self, directory: str, folder: str, user: int, limit: int) -> None:
        """Firecracker wants the guest paused; the answer comes when all memory is written."""
        with jail.place_for_snapshot(self._host, directory, user), self._api(directory, timeout=_SNAPSHOT) as api:
            api.send(
                "PUT",
                "/snapshot/create",
                {
                    "snapshot_type": "Full",
                    "snapshot_path": NEW_STATE,
                    "mem_file_path": NEW_MEMORY,
                },
            )
            jail.take_snapshot(self._host, directory, folder, user, limit)

    def load(self, machine: Machine, folder: str) -> None:
        """Load a snapshot. Only logger and metrics may be configured before. The state names the disks and the TAP.

        The memory file is mapped, so its content must not change while the VM runs. It may be removed.
        """
        self._wait(machine)
        with self._api(machine.directory, timeout=_SNAPSHOT) as api:
            for method, path, body in boot_requests(machine)[:2]:
                api.send(method, path, body)
            api.send(
                "PUT",
                "/snapshot/load",
                {
                    "snapshot_path": SAVED_STATE,
                    "resume_vm": False,  # its TAP is not on the bridge yet
                    "mem_backend": {"backend_path": SAVED_MEMORY, "backend_type": "File"},
                },
            )
            # The state restores the old limits.
            for method, path, body in limit_requests(len(machine.volumes), machine.rate_limits):
                api.send(method, path, body)
        jail.seal_guest(self._host, machine.directory, machine.user)

    def _wait(self, machine: Machine) -> None:
        """Wait until its API accepts connections: Firecracker's own files are there then. The first request gets its answer."""
        directory, deadline = machine.directory, time.monotonic() + _READY
        while not jail.accepts(self._host, directory):
            if time.monotonic() > deadline:
                raise Failed("NQR-VMM-105", "Firecracker did not open its API socket.", f"Read {_log(directory)}.", status=502)
            time.sleep(0.002)
        jail.seal(self._host, directory, machine.user)

    def _program(self, name: str) -> str:
        own = f"{self._bin_dir}/{name}"
        found = jail.program(self._host, own) or jail.program(self._host, name)
        if found is None:
            raise Failed("NQR-VMM-101", f"{name.title()} is not installed on this host.", "Run `nqr install` again.", status=503)
        return found

    @contextmanager
    def _api(self, directory: str, timeout: float = 10.0) -> Iterator[Api]:
        try:
            with jail.socket(self._host, directory) as path, closing(Api(path, timeout)) as api:
                yield api
        except ApiError as error:
            raise Failed(
                "NQR-VMM-106",
                f"Firecracker refused: {error.message}.",
                f"Read {_log(directory)}, then start the VM again.",
                status=502,
            ) from error
        except (HostError, OSError) as error:
            raise Failed(
                "NQR-VMM-106", f"Firecracker cannot be reached ({error}).", "Stop the VM with force, then start it.", status=502
            ) from error


def _log(directory: str) -> str:
    return f"{directory}/jail/*/*/root{LOG}"
