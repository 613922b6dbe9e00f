"""The Firecracker driver: starts an empty VMM, then configures it over its socket."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from nqrust.agent.errors import Failed, Refused
from nqrust.agent.vmm.firecracker.api import (
    Api,
    ApiError,
    api_socket,
    boot_requests,
    limit_requests,
    log_file,
    metrics_file,
)
from nqrust.agent.vmm.port import Capabilities, Machine, RunState
from nqrust.contract.vms import RateLimits
from nqrust.host.port import Host

_SNAPSHOT = 600.0  # seconds to write or map all of a guest's memory
_READY = 5.0  # seconds for the API socket to come up
_STATES = {"Running": RunState.running, "Paused": RunState.paused, "Not started": RunState.unconfigured}


class Firecracker:
    name = "firecracker"
    capabilities = Capabilities(accelerators=frozenset({"kvm"}), elf_kernel=True, snapshot=True, network_limits=True)

    def __init__(self, host: Host) -> None:
        self._host = host

    def argv(self, machine: Machine) -> tuple[str, ...]:
        if machine.kernel_elf is None:
            raise Refused(
                "NQR-VMM-107",
                "The image has no uncompressed ELF kernel, which Firecracker needs.",
                "Use an image with `kernel_elf`, or run `nqr install --vmm qemu` on this host.",
            )
        program = self._host.which("firecracker")
        if program is None:
            raise Failed("NQR-VMM-101", "Firecracker is not installed on this host.", "Run `nqr install` again.", status=503)
        return (program, "--api-sock", api_socket(machine.directory), "--id", machine.id)

    def prepare(self, machine: Machine) -> None:
        """Remove the socket and create the log files: Firecracker refuses an existing socket path and missing log files."""
        self._host.remove(api_socket(machine.directory))
        for path in (log_file(machine.directory), metrics_file(machine.directory)):
            self._host.write_file(path, b"", mode=0o600)

    def configure(self, machine: Machine) -> None:
        self._wait(machine.directory)
        with _api(machine.directory) as api:
            for method, path, body in boot_requests(machine):
                api.send(method, path, body)

    def state(self, directory: str) -> RunState:
        try:
            with _api(directory, timeout=2.0) as api:
                return _STATES.get(str(api.send("GET", "/").get("state", "")), RunState.silent)
        except Failed:
            return RunState.silent

    def shut_down(self, directory: str) -> None:
        """Send Ctrl-Alt-Del on the emulated keyboard: init reboots, and `reboot=k` ends the VMM."""
        with _api(directory) as api:
            api.send("PUT", "/actions", {"action_type": "SendCtrlAltDel"})

    def limit(self, directory: str, volumes: int, limits: RateLimits) -> None:
        with _api(directory) as api:
            for method, path, body in limit_requests(volumes, limits):
                api.send(method, path, body)

    def pause(self, directory: str) -> None:
        with _api(directory) as api:
            api.send("PATCH", "/vm", {"state": "Paused"})

    def resume(self, directory: str) -> None:
        with _api(directory) as api:
            api.send("PATCH", "/vm", {"state": "Resumed"})

    def snapshot(self, directory: str, folder: str) -> None:
        """Snapshot the guest, which Firecracker wants paused. The answer arrives after all memory is written."""
        with _api(directory, timeout=_SNAPSHOT) as api:
            api.send(
                "PUT",
                "/snapshot/create",
                {
                    "snapshot_type": "Full",
                    "snapshot_path": f"{folder}/vmstate",
                    "mem_file_path": f"{folder}/memory",
                },
            )

    def load(self, machine: Machine, folder: str) -> None:
        """Load a snapshot. Only logger and metrics may be configured before. The state names the disks and the TAP.

        The memory file is mapped, so its content must not change while the VM runs. It may be removed.
        """
        self._wait(machine.directory)
        with _api(machine.directory, timeout=_SNAPSHOT) as api:
            for method, path, body in boot_requests(machine)[:2]:
                api.send(method, path, body)
            api.send(
                "PUT",
                "/snapshot/load",
                {
                    "snapshot_path": f"{folder}/vmstate",
                    "resume_vm": True,
                    "mem_backend": {"backend_path": f"{folder}/memory", "backend_type": "File"},
                },
            )
            # The state restores the old limits.
            for method, path, body in limit_requests(len(machine.volumes), machine.rate_limits):
                api.send(method, path, body)

    def _wait(self, directory: str) -> None:
        deadline = time.monotonic() + _READY
        while self.state(directory) is RunState.silent:
            if time.monotonic() > deadline:
                raise Failed(
                    "NQR-VMM-105", "Firecracker did not open its API socket.", f"Read {log_file(directory)}.", status=502
                )
            time.sleep(0.005)


@contextmanager
def _api(directory: str, timeout: float = 10.0) -> Iterator[Api]:
    api = Api(directory, timeout)
    try:
        yield api
    except ApiError as error:
        raise Failed(
            "NQR-VMM-106",
            f"Firecracker refused: {error.message}.",
            f"Read {log_file(directory)}, then start the VM again.",
            status=502,
        ) from error
    finally:
        api.close()
