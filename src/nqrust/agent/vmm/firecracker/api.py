"""Firecracker's HTTP interface on a Unix socket, and the order of the requests that configure a VM. v1.13.

https://github.com/firecracker-microvm/firecracker/blob/v1.13.1/src/firecracker/swagger/firecracker.yaml
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from typing import Any

from nqrust.agent.vmm.port import Machine
from nqrust.contract.vms import RateLimits

CONSOLE = "console=ttyS0 reboot=k panic=1 pci=off"
Request = tuple[str, str, dict[str, Any]]


API_SOCKET, LOG, METRICS = "/firecracker.sock", "/firecracker.log", "/firecracker.metrics"
KERNEL, INITRD = "/kernel", "/initrd"
SAVED_STATE, SAVED_MEMORY = "/saved/vmstate", "/saved/memory"
NEW_STATE, NEW_MEMORY = "/snapshot/vmstate", "/snapshot/memory"
VSOCK = "/guest/vsock.sock"
"""Paths inside the jail, the same for every VM: a snapshot names its disks by them."""


def disk(number: int) -> str:
    """The VM's own disk is number 0, its volumes follow."""
    return f"/disk{number}"


def limiter(bytes_a_second: int | None, operations: int | None = None) -> dict[str, Any]:
    """Return a rate limiter with both token buckets, each refilled within a second. A bucket of size 0 sets no limit."""
    return {
        bucket: {"size": rate or 0, "refill_time": 1000 if rate else 0}
        for bucket, rate in (("bandwidth", bytes_a_second), ("ops", operations))
    }


def disk_limiter(limits: RateLimits) -> dict[str, Any]:
    return limiter(limits.disk_kib and limits.disk_kib * 1024, limits.disk_iops)


def network_limiters(limits: RateLimits) -> dict[str, Any]:
    """Return the limiters of the guest's NIC. "Received" means received by the guest."""
    return {
        "rx_rate_limiter": limiter(limits.net_rx_kbit and limits.net_rx_kbit * 125),
        "tx_rate_limiter": limiter(limits.net_tx_kbit and limits.net_tx_kbit * 125),
    }


def limit_requests(volumes: int, limits: RateLimits) -> tuple[Request, ...]:
    """Return the requests that set new limits for a running VM: rootfs, volumes, network."""
    drives = ["rootfs", *(f"volume{number}" for number in range(1, volumes + 1))]
    return (
        *(("PATCH", f"/drives/{drive}", {"drive_id": drive, "rate_limiter": disk_limiter(limits)}) for drive in drives),
        ("PATCH", "/network-interfaces/eth0", {"iface_id": "eth0", **network_limiters(limits)}),
    )


def boot_requests(machine: Machine) -> tuple[Request, ...]:
    """Return the requests, in order, that make `machine` ready to boot, but for its disks."""
    boot: dict[str, Any] = {
        "kernel_image_path": KERNEL,
        "boot_args": f"{CONSOLE} {machine.cmdline}".strip(),
    }
    if machine.initrd:
        boot["initrd_path"] = INITRD
    limits = machine.rate_limits
    network = network_limiters(limits) if limits.limits_network else {}
    vsock = ("PUT", "/vsock", {"guest_cid": 3, "uds_path": VSOCK})  # each VMM has its own numbers; 3 is the first
    nic = {"iface_id": "eth0", "guest_mac": machine.mac, "host_dev_name": machine.tap, **network}
    return (
        ("PUT", "/logger", {"log_path": LOG, "level": "Warning", "show_level": True}),
        ("PUT", "/metrics", {"metrics_path": METRICS}),
        ("PUT", "/machine-config", {"vcpu_count": machine.vcpus, "mem_size_mib": machine.memory_mib}),
        ("PUT", "/boot-source", boot),
        ("PUT", "/network-interfaces/eth0", nic),
        ("PUT", "/entropy", {}),
        *((vsock,) if machine.guest_exec else ()),
    )


def disk_requests(machine: Machine) -> tuple[Request, ...]:
    """Return the requests that open the disks. Firecracker reads their sizes, and appends root= for the root drive.

    `cache_type` Writeback: a guest's flush reaches the disk, as with QEMU's default.
    """
    limits = machine.rate_limits
    limiter = {"rate_limiter": disk_limiter(limits)} if limits.disk_kib or limits.disk_iops else {}
    options = {"is_read_only": False, "cache_type": "Writeback", **limiter}

    def drive(name: str, number: int) -> Request:
        body = {"drive_id": name, "path_on_host": disk(number), "is_root_device": not number, **options}
        return "PUT", f"/drives/{name}", body

    return drive("rootfs", 0), *(drive(f"volume{number}", number) for number in range(1, len(machine.volumes) + 1))


def begin_request(machine: Machine) -> Request:
    """Return the request that boots `machine`, or resumes it if it was loaded from a snapshot."""
    if machine.snapshot:
        return ("PATCH", "/vm", {"state": "Resumed"})
    return ("PUT", "/actions", {"action_type": "InstanceStart"})


_LARGEST_ANSWER = 1 << 16
_LONGEST_MESSAGE = 500


class ApiError(Exception):
    """No connection (status 0), or Firecracker's own `fault_message`."""

    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message
        super().__init__(message)


class _Socket(socket.socket):
    """A socket with one deadline for all that is read: each byte, header or interim answer would start a timeout again. It has also
    one bound for all: interim answers without end would keep the agent's interpreter busy until the deadline."""

    deadline = 0.0
    bytes = 0

    def recv_into(self, *arguments: Any, **named: Any) -> int:
        self.settimeout(self.left())
        got = super().recv_into(*arguments, **named)
        self.bytes += got
        if self.bytes > 2 * _LARGEST_ANSWER:
            raise OSError("the answer is too long")
        return got

    def left(self) -> float:
        """Seconds until the deadline. Raises TimeoutError after it."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no answer in time")
        return left


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("localhost")
        self._path, self._seconds = path, seconds

    def connect(self) -> None:
        self._stream = _Socket(socket.AF_UNIX)
        self._stream.settimeout(self._seconds)
        self._stream.connect(self._path)
        self.sock = self._stream

    def renew(self) -> None:
        """Begin a request: its deadline counts from now."""
        if self.sock is None:
            self.connect()
        self._stream.settimeout(self._seconds)
        self._stream.deadline = time.monotonic() + self._seconds
        self._stream.bytes = 0


class Api:
    """Firecracker may be hostile by now: each answer has a deadline and a largest size, its headers included.

    `path`: of the socket. `timeout`: seconds for a request and its whole answer."""

    def __init__(self, path: str, timeout: float = 10.0) -> None:
        self._connection = _Connection(path, timeout)

    def send(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the answer's object (empty for 204). Raises ApiError."""
        try:
            status, content = self._exchange(method, path, body)
        except (http.client.HTTPException, OSError, ValueError) as error:
            self.close()
            raise ApiError(0, str(error) or type(error).__name__) from error
        data: dict[str, Any] = {}
        with contextlib.suppress(ValueError, RecursionError):
            answer = json.loads(content) if content else {}
            data = answer if isinstance(answer, dict) else {}
        if status >= 300:
            raise ApiError(status, str(data.get("fault_message", f"HTTP {status}"))[:_LONGEST_MESSAGE])
        return data

    def _exchange(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, bytes]:
        self._connection.renew()
        content = None if body is None else json.dumps(body).encode()
        self._connection.request(method, path, content, {} if body is None else {"Content-Type": "application/json"})
        with self._connection.getresponse() as answer:
            found = answer.read(_LARGEST_ANSWER + 1)
        if len(found) > _LARGEST_ANSWER:
            raise http.client.HTTPException("the answer is too long")
        return answer.status, found

    def close(self) -> None:
        self._connection.close()
