"""The fake Firecracker of the unit tests answers as the real one does, to good requests and to wrong ones."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests import bare_guest, real_firecracker
from tests.unit.agent.test_firecracker import FakeFirecracker

_reason = real_firecracker.why_not()
pytestmark = [pytest.mark.hosts, pytest.mark.skipif(_reason is not None, reason=_reason or "")]


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    return bare_guest.build(tmp_path)


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """A client of the real one and one of the fake."""
    real = tmp_path / "real.sock"
    (tmp_path / "jail").mkdir()
    fake = FakeFirecracker(tmp_path / "jail")
    fake.root = Path("/")  # both get the same paths
    process = subprocess.Popen(
        [real_firecracker.programs() / "firecracker", "--api-sock", real], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 10
        while not real.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        clients = [
            httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://localhost", timeout=20)
            for path in (real, tmp_path / "jail" / "firecracker.sock")
        ]
        yield clients[0], clients[1]
        for client in clients:
            client.close()
    finally:
        process.kill()
        process.wait()
        fake.server.shutdown()
        fake.server.server_close()


def requests(folder: Path, kernel: Path) -> list[tuple[str, str, dict[str, Any] | None]]:
    disk = folder / "disk"
    disk.write_bytes(b"\0" * 65536)
    for name in ("log", "metrics"):
        (folder / name).write_text("")
    missing = str(folder / "missing" / "file")
    limiter = {"bandwidth": {"size": 1024, "refill_time": 1000}, "ops": {"size": 0, "refill_time": 0}}
    drive = {"drive_id": "rootfs", "path_on_host": str(disk), "is_root_device": True, "is_read_only": False}
    return [
        ("GET", "/", None),
        ("PATCH", "/vm", {"state": "Paused"}),
        ("PUT", "/actions", {"action_type": "InstanceStart"}),
        ("PUT", "/logger", {"log_path": str(folder / "log"), "level": "Warning", "show_level": True}),
        ("PUT", "/metrics", {"metrics_path": str(folder / "metrics")}),
        ("PUT", "/machine-config", {"vcpu_count": 0, "mem_size_mib": 64}),
        ("PUT", "/machine-config", {"vcpu_count": 33, "mem_size_mib": 64}),
        ("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 64, "unknown": 1}),
        ("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 64}),
        ("PUT", "/drives/rootfs", {**drive, "path_on_host": missing}),
        ("PUT", "/drives/rootfs", {**drive, "unknown": 1}),
        ("PUT", "/drives/rootfs", {**drive, "cache_type": "Writeback", "rate_limiter": limiter}),
        ("PUT", "/nothing", {}),
        ("PUT", "/boot-source", {"kernel_image_path": str(kernel), "boot_args": "console=ttyS0"}),
        ("PUT", "/entropy", {}),
        ("PUT", "/actions", {"action_type": "InstanceStart"}),
        ("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 64}),
        ("PATCH", "/drives/rootfs", {"drive_id": "rootfs", "rate_limiter": limiter}),
        ("PATCH", "/drives/other", {"drive_id": "other", "rate_limiter": limiter}),
        ("PATCH", "/vm", {"state": "Paused"}),
        ("GET", "/", None),
        ("PATCH", "/vm", {"state": "Resumed"}),
    ]


def test_the_fake_answers_with_the_status_of_the_real_one(
    both: tuple[httpx.Client, httpx.Client], tmp_path: Path, kernel: Path
) -> None:
    real, fake = both
    differences = []
    for method, path, body in requests(tmp_path, kernel):
        answers = [client.request(method, path, json=body) for client in (real, fake)]
        if answers[0].status_code != answers[1].status_code:
            differences.append((method, path, body, [(answer.status_code, answer.text) for answer in answers]))
        if method == "GET":
            assert answers[0].json()["state"] == answers[1].json()["state"]
            assert answers[0].json().keys() == answers[1].json().keys()
    assert differences == []
