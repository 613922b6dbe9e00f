"""The Firecracker driver against a server with Firecracker's order and rules."""

from __future__ import annotations

import json
import os
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.host import FakeHost

from nqrust.agent.errors import Failed, Refused
from nqrust.agent.vmm.firecracker import api, jail
from nqrust.agent.vmm.firecracker.driver import Firecracker
from nqrust.agent.vmm.port import Machine, RunState
from nqrust.contract.vms import RateLimits
from nqrust.host.local import LocalHost

FIELDS = {
    "/logger": {"log_path", "level", "show_level", "show_log_origin", "module"},
    "/metrics": {"metrics_path"},
    "/machine-config": {"vcpu_count", "mem_size_mib", "smt", "track_dirty_pages", "huge_pages", "cpu_template"},
    "/boot-source": {"kernel_image_path", "initrd_path", "boot_args"},
    "/drives/": {
        "drive_id",
        "path_on_host",
        "is_root_device",
        "is_read_only",
        "cache_type",
        "partuuid",
        "rate_limiter",
        "io_engine",
        "socket",
    },
    "/network-interfaces/": {"iface_id", "guest_mac", "host_dev_name", "rx_rate_limiter", "tx_rate_limiter"},
    "/entropy": {"rate_limiter"},
    "/vsock": {"guest_cid", "uds_path", "vsock_id"},
}


class JailHost(LocalHost):
    """Pretend that Firecracker is installed, and that files belong to the user of the test."""

    def which(self, name: str) -> str | None:
        return f"/nowhere/bin/{name}"

    def mkdir(self, path: str, **how: Any) -> None:
        super().mkdir(path, mode=how["mode"])

    def write_file(self, path: str, data: bytes, **how: Any) -> None:
        super().write_file(path, data, mode=how["mode"])


def bind_in_jail(machine: Machine) -> None:
    """Do the work of the mount namespace."""
    for source, place in Firecracker(JailHost()).mounts(machine):
        Path(place).write_bytes(Path(source).read_bytes())


class FakeFirecracker:
    """Refuse like v1.13: unknown fields, missing files, a kernel that is no ELF, and bodies above 51,200 bytes. Also boot
    resources after the start, a start without a kernel, and a pause before the start."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state, self.seen, self.parts = "Not started", list[str](), dict[str, dict[str, Any]]()
        self.limits = dict[str, dict[str, int]]()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                status, body = fake.handle(self.command, self.path, self.rfile.read(length))
                data = json.dumps(body).encode() if body is not None else b""
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PUT = do_PATCH = _answer

            def log_message(self, *_: object) -> None:
                pass

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True

            def get_request(self) -> Any:
                return self.socket.accept()[0], ("unix", 0)

        folder = os.open(root, os.O_PATH)  # the path itself is too long for bind(2)
        self.server = Server(f"/proc/self/fd/{folder}/firecracker.sock", Handler)
        os.close(folder)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def inside(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def handle(self, method: str, path: str, data: bytes) -> tuple[int, Any]:
        def no(message: str) -> tuple[int, Any]:
            return 400, {"fault_message": message}

        if (method, path) == ("GET", "/"):
            return 200, {"id": "a1", "state": self.state, "vmm_version": "1.13.1", "app_name": "Firecracker"}
        if len(data) > 51_200:
            return no("payload too large")
        self.seen.append(f"{method} {path}")
        body = json.loads(data)
        if path.startswith("/snapshot/"):
            return self._snapshot(path, body, no)
        if path == "/actions":
            return self._action(body["action_type"], no)
        if (method, path) == ("PATCH", "/vm"):
            if self.state == "Not started":
                return no("The requested operation is not supported before starting the microVM.")
            self.state = {"Paused": "Paused", "Resumed": "Running"}[body["state"]]
            return 204, None
        if method == "PATCH":
            return self._change(path, body, no)
        allowed = next(
            (fields for prefix, fields in FIELDS.items() if path == prefix or (prefix.endswith("/") and path.startswith(prefix))),
            None,
        )
        if method != "PUT" or allowed is None:
            return no(f"Invalid request method and/or path: {method} {path}.")
        if set(body) - allowed:
            return no(f"unknown field {set(body) - allowed}")
        if self.state != "Not started":
            return no("The requested operation is not supported after starting the microVM.")
        for key in ("log_path", "metrics_path", "path_on_host", "initrd_path"):
            if key in body and not self.inside(body[key]).exists():
                return no(f"No such file or directory: {body[key]}")
        if path == "/machine-config" and not 1 <= body["vcpu_count"] <= 32:
            return no("The vCPU number is invalid!")
        self.parts[path] = body
        return 204, None

    def _change(self, path: str, body: dict[str, Any], no: Any) -> tuple[int, Any]:
        """Limits of a running VM. They are merged bucket by bucket, and a bucket of size 0 removes its limit."""
        kinds = {
            "/drives/": {"drive_id", "path_on_host", "rate_limiter"},
            "/network-interfaces/": {"iface_id", "rx_rate_limiter", "tx_rate_limiter"},
        }
        allowed = next((fields for prefix, fields in kinds.items() if path.startswith(prefix)), None)
        if allowed is None or set(body) - allowed:
            return no(f"Invalid request method and/or path: PATCH {path}.")
        if self.state == "Not started":
            return no("The requested operation is not supported before starting the microVM.")
        if "/boot-source" in self.parts and path not in self.parts:  # (a snapshot brings devices that nobody put here)
            return no("Device manager error: Failed to find the device on the bus.")
        for name, limiter in body.items():
            if name.endswith("rate_limiter"):
                if set(limiter) - {"bandwidth", "ops"} or any(
                    set(b) - {"size", "refill_time", "one_time_burst"} for b in limiter.values()
                ):
                    return no("unknown field")
                part = self.limits.setdefault(f"{path} {name}", {})
                part.update({kind: bucket["size"] for kind, bucket in limiter.items()})
        return 204, None

    def _snapshot(self, path: str, body: dict[str, Any], no: Any) -> tuple[int, Any]:
        if path == "/snapshot/create":
            if set(body) - {"snapshot_type", "snapshot_path", "mem_file_path"}:
                return no("unknown field")
            if self.state != "Paused":
                return no("Cannot create snapshot: the microVM is not paused.")
            for key in ("snapshot_path", "mem_file_path"):
                self.inside(body[key]).write_bytes(b"saved")
            return 204, None
        if set(body) - {
            "snapshot_path",
            "mem_backend",
            "mem_file_path",
            "enable_diff_snapshots",
            "track_dirty_pages",
            "resume_vm",
            "network_overrides",
        }:
            return no("unknown field")
        if self.state != "Not started" or set(self.parts) - {"/logger", "/metrics"}:
            return no("Loading a microVM snapshot not allowed after configuring boot-specific resources.")
        for file in (body["snapshot_path"], body["mem_backend"]["backend_path"]):
            if not self.inside(file).exists():
                return no(f"No such file or directory: {file}")
        self.state = "Running" if body.get("resume_vm") else "Paused"
        return 204, None

    def _action(self, action: str, no: Any) -> tuple[int, Any]:
        if action == "SendCtrlAltDel":
            return (204, None) if self.state == "Running" else no("not supported before starting the microVM")
        boot = self.parts.get("/boot-source")
        if action != "InstanceStart" or self.state != "Not started":
            return no("The requested operation is not supported after starting the microVM.")
        if boot is None:
            return no("Cannot start microvm without kernel configuration.")
        with self.inside(boot["kernel_image_path"]).open("rb") as kernel:
            if kernel.read(4) != b"\x7fELF":
                return no("Cannot load kernel due to invalid memory configuration or invalid kernel image: InvalidElfMagicNumber")
        self.state = "Running"
        return 204, None


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    for name, data in {"vmlinux": b"\x7fELF", "vmlinuz": b"MZ", "initrd": b"070701", "disk.ext4": b""}.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "run").mkdir()
    return Machine(
        id="a1",
        name="web1",
        vcpus=2,
        memory_mib=256,
        directory=str(tmp_path),
        disk=str(tmp_path / "disk.ext4"),
        kernel=str(tmp_path / "vmlinuz"),
        kernel_elf=str(tmp_path / "vmlinux"),
        initrd=str(tmp_path / "initrd"),
        cmdline="quiet",
        mac="06:4e:00:00:00:01",
        tap="tap0123456789a",
        user=1_900_000_000,
        accel="kvm",
    )


@pytest.fixture
def fake(tmp_path: Path, machine: Machine) -> Iterator[FakeFirecracker]:
    Firecracker(JailHost()).prepare(machine)
    bind_in_jail(machine)
    server = FakeFirecracker(Path(jail.root(JailHost(), machine.directory)))
    yield server
    server.server.shutdown()
    server.server.server_close()


def place_volumes(fake: FakeFirecracker) -> None:
    for name in ("/disk1", "/disk2"):
        fake.inside(name).touch()


def test_a_vm_is_put_together_in_firecrackers_order(fake: FakeFirecracker, machine: Machine) -> None:
    driver = Firecracker(JailHost())
    assert driver.state(machine.directory) is RunState.unconfigured
    driver.configure(machine)
    assert driver.state(machine.directory) is RunState.unconfigured, "its TAP is open, and not yet on the bridge"
    driver.begin(machine)
    assert driver.state(machine.directory) is RunState.running
    assert fake.seen[0] == "PUT /logger"
    assert fake.seen[-1] == "PUT /actions"
    assert fake.parts["/machine-config"] == {"vcpu_count": 2, "mem_size_mib": 256}
    assert fake.parts["/boot-source"]["boot_args"] == "console=ttyS0 reboot=k panic=1 pci=off quiet"
    assert fake.parts["/drives/rootfs"]["path_on_host"] == "/disk0"
    assert fake.parts["/network-interfaces/eth0"]["guest_mac"] == machine.mac


def test_only_a_vm_with_commands_has_a_vsock(fake: FakeFirecracker, machine: Machine) -> None:
    assert "/vsock" not in {path for _, path, _ in api.boot_requests(machine)}
    Firecracker(JailHost()).configure(replace(machine, guest_exec=True))
    assert fake.parts["/vsock"] == {"guest_cid": 3, "uds_path": "/guest/vsock.sock"}
    assert fake.inside("/guest").is_dir(), "Firecracker makes the socket in there"


def test_volumes_are_drives_after_the_root_drive(fake: FakeFirecracker, machine: Machine) -> None:
    with_volumes = replace(machine, volumes=(machine.kernel, machine.disk))
    place_volumes(fake)
    driver = Firecracker(JailHost())
    driver.configure(with_volumes)
    assert not [line for line in fake.seen if "/drives/" in line], "a new disk may be written until the guest begins"
    driver.begin(with_volumes)
    drives = [line for line in fake.seen if line.startswith("PUT /drives/")]
    assert drives == ["PUT /drives/rootfs", "PUT /drives/volume1", "PUT /drives/volume2"]
    assert not fake.parts["/drives/volume1"]["is_root_device"]


def test_limits_are_token_buckets_refilled_each_second(fake: FakeFirecracker, machine: Machine) -> None:
    driver = Firecracker(JailHost())
    limits = RateLimits(net_rx_kbit=8000, disk_kib=64, disk_iops=100)
    place_volumes(fake)
    limited = replace(machine, volumes=(machine.disk,), rate_limits=limits)
    driver.configure(limited)
    driver.begin(limited)
    limiter = {"bandwidth": {"size": 65536, "refill_time": 1000}, "ops": {"size": 100, "refill_time": 1000}}
    assert fake.parts["/drives/rootfs"]["rate_limiter"] == limiter
    assert fake.parts["/drives/volume1"]["rate_limiter"] == limiter
    network = fake.parts["/network-interfaces/eth0"]
    assert network["rx_rate_limiter"]["bandwidth"] == {"size": 1_000_000, "refill_time": 1000}
    assert network["tx_rate_limiter"]["bandwidth"]["size"] == 0
    driver.limit(machine.directory, 1, RateLimits(net_tx_kbit=64))
    assert fake.limits == {
        "/drives/rootfs rate_limiter": {"bandwidth": 0, "ops": 0},
        "/drives/volume1 rate_limiter": {"bandwidth": 0, "ops": 0},
        "/network-interfaces/eth0 rx_rate_limiter": {"bandwidth": 0, "ops": 0},
        "/network-interfaces/eth0 tx_rate_limiter": {"bandwidth": 8000, "ops": 0},
    }


def test_without_limits_no_limiter_is_asked_for(fake: FakeFirecracker, machine: Machine) -> None:
    Firecracker(JailHost()).configure(machine)
    assert not [key for part in fake.parts.values() for key in part if key.endswith("rate_limiter")]


def test_a_snapshot_is_of_a_paused_guest_and_is_loaded_into_an_empty_firecracker(
    fake: FakeFirecracker, machine: Machine, tmp_path: Path
) -> None:
    driver = Firecracker(JailHost())
    driver.configure(machine)
    driver.begin(machine)
    with pytest.raises(Failed, match="not paused"):
        driver.snapshot(machine.directory, str(tmp_path), os.geteuid(), 1 << 20)
    driver.pause(machine.directory)
    driver.snapshot(machine.directory, str(tmp_path), os.geteuid(), 1 << 20)
    assert (tmp_path / "memory").exists()
    assert (tmp_path / "vmstate").exists()
    with pytest.raises(Failed, match=r"not supported after|not allowed after"):
        driver.load(machine, str(tmp_path))
    fake.state, fake.parts = "Not started", {}
    for name in ("/saved/vmstate", "/saved/memory"):
        fake.inside(name).touch()
    driver.load(replace(machine, rate_limits=RateLimits(disk_iops=10)), str(tmp_path))
    assert driver.state(machine.directory) is RunState.paused, "its TAP is open, and not yet on the bridge"
    driver.begin(replace(machine, snapshot=str(tmp_path)))
    assert fake.limits["/drives/rootfs rate_limiter"]["ops"] == 10, "the limits of now, not of then"
    assert driver.state(machine.directory) is RunState.running


def test_pause_resume_and_a_graceful_stop(fake: FakeFirecracker, machine: Machine) -> None:
    driver = Firecracker(JailHost())
    driver.configure(machine)
    driver.begin(machine)
    driver.pause(machine.directory)
    assert driver.state(machine.directory) is RunState.paused
    driver.resume(machine.directory)
    driver.shut_down(machine.directory)
    assert fake.seen[-1] == "PUT /actions"


def test_what_firecracker_refuses_is_told_in_its_words(fake: FakeFirecracker, machine: Machine) -> None:
    driver = Firecracker(JailHost())
    fake.inside("/kernel").write_bytes(b"MZ")
    with pytest.raises(Failed, match="InvalidElfMagicNumber") as failed:
        driver.configure(machine)
        driver.begin(machine)
    assert failed.value.code == "NQR-VMM-106"
    assert driver.state(machine.directory) is RunState.unconfigured
    with pytest.raises(Failed, match="before starting"):
        driver.pause(machine.directory)


def test_an_image_without_an_elf_kernel_is_refused_before_anything_runs(machine: Machine) -> None:
    with pytest.raises(Refused) as refused:
        Firecracker(FakeHost.debian12()).argv(replace(machine, kernel_elf=None))
    assert refused.value.code == "NQR-VMM-107"


def test_the_command_line(machine: Machine) -> None:
    host = FakeHost.debian12()
    host.install("firecracker", "/usr/local/bin/firecracker")
    host.install("jailer", "/usr/local/bin/jailer")
    argv = Firecracker(host).argv(machine)
    user = ("--uid", "1900000000", "--gid", "1900000000")
    assert argv[:9] == ("/usr/local/bin/jailer", "--id", "a1", "--exec-file", "/usr/local/bin/firecracker", *user)
    assert argv[9:] == ("--chroot-base-dir", f"{machine.directory}/jail", "--", "--api-sock", "/firecracker.sock")


def test_the_api_of_another_program_is_not_taken_for_the_vms(fake: FakeFirecracker, machine: Machine) -> None:
    """The VM's user may replace the socket with a link, but root must not follow it."""
    socket = fake.inside("/firecracker.sock")
    socket.rename(fake.inside("/elsewhere.sock"))
    socket.symlink_to(fake.inside("/elsewhere.sock"))
    driver = Firecracker(JailHost())
    assert driver.state(machine.directory) is RunState.silent
    with pytest.raises(Failed, match="cannot be reached"):
        driver.pause(machine.directory)
    assert fake.seen == []
