"""Firecracker's HTTP interface on a Unix socket, and the order in which a VM is put together. v1.13.

https://github.com/firecracker-microvm/firecracker/blob/v1.13.1/src/firecracker/swagger/firecracker.yaml
"""

from __future__ import annotations

import contextlib
from typing import Any

import httpx

from nqrust.agent.vmm.port import Machine

CONSOLE = "console=ttyS0 reboot=k panic=1 pci=off"
Request = tuple[str, str, dict[str, Any]]


def api_socket(directory: str) -> str:
    return f"{directory}/firecracker.sock"


def log_file(directory: str) -> str:
    return f"{directory}/firecracker.log"


def metrics_file(directory: str) -> str:
    return f"{directory}/firecracker.metrics"


def boot_requests(machine: Machine) -> tuple[Request, ...]:
    """What is sent, in order, to make `machine` boot. Firecracker itself appends root= for the root drive.

    `cache_type` Writeback: a guest's flush reaches the disk, as with QEMU's default.
    """
    boot: dict[str, Any] = {
        "kernel_image_path": machine.kernel_elf,
        "boot_args": f"{CONSOLE} {machine.cmdline}".strip(),
    }
    if machine.initrd:
        boot["initrd_path"] = machine.initrd
    return (
        ("PUT", "/logger", {"log_path": log_file(machine.directory), "level": "Warning", "show_level": True}),
        ("PUT", "/metrics", {"metrics_path": metrics_file(machine.directory)}),
        ("PUT", "/machine-config", {"vcpu_count": machine.vcpus, "mem_size_mib": machine.memory_mib}),
        ("PUT", "/boot-source", boot),
        ("PUT", "/drives/rootfs", {
            "drive_id": "rootfs", "path_on_host": machine.disk, "is_root_device": True, "is_read_only": False,
            "cache_type": "Writeback",
        }),
        *(
            ("PUT", f"/drives/volume{number}", {
                "drive_id": f"volume{number}", "path_on_host": path, "is_root_device": False, "is_read_only": False,
                "cache_type": "Writeback",
            })
            for number, path in enumerate(machine.volumes, start=1)
        ),
        ("PUT", "/network-interfaces/eth0", {
            "iface_id": "eth0", "guest_mac": machine.mac, "host_dev_name": machine.tap,
        }),
        ("PUT", "/entropy", {}),
        ("PUT", "/actions", {"action_type": "InstanceStart"}),
    )


class ApiError(Exception):
    """No connection (status 0), or Firecracker's own `fault_message`."""

    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message
        super().__init__(message)


class Api:
    def __init__(self, directory: str, timeout: float = 10.0) -> None:
        transport = httpx.HTTPTransport(uds=api_socket(directory))
        self._client = httpx.Client(transport=transport, base_url="http://localhost", timeout=timeout)

    def send(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer's object (empty for 204). Raises ApiError."""
        try:
            answer = self._client.request(method, path, json=body)
        except (httpx.HTTPError, OSError) as error:
            raise ApiError(0, str(error) or type(error).__name__) from error
        data: dict[str, Any] = {}
        with contextlib.suppress(ValueError):
            body_of_answer = answer.json() if answer.content else {}
            data = body_of_answer if isinstance(body_of_answer, dict) else {}
        if answer.status_code >= 300:
            raise ApiError(answer.status_code, str(data.get("fault_message", f"HTTP {answer.status_code}")))
        return data

    def close(self) -> None:
        self._client.close()
