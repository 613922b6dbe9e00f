"""A manager in memory behind the client's transport seam, and a clock that a wait can exhaust at once."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from nqrust.cli import events as event_commands
from nqrust.cli.stopping import Stopped
from nqrust.cli.vm import snapshots as vm_snapshots
from nqrust.cli.vm import watching as vm_watching
from nqrust.client import manager as client_module
from nqrust.client import waiting
from nqrust.client.manager import ManagerClient

AT = "2026-01-01T00:00:00Z"
BLOB = {"file": "f", "size": 1, "sha256": "0" * 64}
VM = {
    "id": "v1", "name": "web1", "state": "stopped", "desired_state": "stopped", "host": "h1", "ip": "10.0.0.10",
    "mac": "06:4e:00:00:00:01", "boot_id": "b1", "image": "tiny", "vcpus": 1, "memory_mib": 256, "disk_mib": 32,
    "created_at": AT, "tap": "tap0", "observed_generation": 1,
}  # fmt: skip
TEMPLATE = {"name": "small", "image": "tiny", "created_at": AT, "updated_at": AT}
VOLUME = {"name": "db1-vdb-v1", "size_mib": 64, "host": "h1", "vm": None, "created_at": AT}
IMAGE = {
    "id": "i1", "name": "tiny", "arch": "x86_64", "size": 1, "sha256": "0" * 64, "state": "ready", "min_memory_mib": 64,
    "min_disk_mib": 16, "created_at": AT,
    "manifest": {"name": "tiny", "rootfs": BLOB, "kernel": BLOB, "created_at": AT},
}  # fmt: skip
HOST = {
    "id": "h1", "name": "h1", "state": "online", "url": "http://h1:19090", "version": "1", "boot_id": "b", "vmm": "qemu",
    "accel": "tcg", "kvm": False, "capacity": {"cpus": 2, "memory_mib": 4096}, "network": {"bridge": "fcbr0"}, "created_at": AT,
}  # fmt: skip
SNAPSHOT = {"name": "s1", "kind": "disk", "size": 1, "created_at": AT, "state": "ready"}
UNKNOWN = {
    "id": "u1", "name": "lost", "host": "h1", "state": "running", "ip": "10.0.0.11", "image": "tiny", "vcpus": 1,
    "memory_mib": 256, "recorded_on": None, "first_seen_at": AT,
}  # fmt: skip
REACHED = {"start": "running", "restart": "running", "resume": "running", "pause": "paused", "stop": "stopped"}
ATTACHED = {"device": "vdb", "size_mib": 1024, "keep": False, "name": None}
TOKEN = {"id": "t1", "name": "ci", "role": "viewer", "created_at": AT, "token": "nqr_made"}
USER = {"id": "u1", "username": "ann", "role": "viewer", "created_at": AT}
EVENT = {
    "id": 7, "at": AT, "subject_kind": "vm", "subject_id": "v1", "subject_name": "web1", "reason": "Started", "message": "VM web1 runs.",
}  # fmt: skip
AUDIT = {
    "id": 8, "at": AT, "actor": "ann", "action": "create_vm", "target": "web1", "method": "POST", "path": "/v1/vms", "status": 201,
    "request_id": "r1", "source": "192.0.2.1",
}  # fmt: skip
RESOURCES = {
    "users": USER,
    "tokens": TOKEN,
    "vms": VM,
    "templates": TEMPLATE,
    "volumes": VOLUME,
    "images": IMAGE,
    "hosts": HOST,
    "unknown-vms": UNKNOWN,
}


@dataclass
class FakeManager:
    """`asked`: method, path with query, and body of every request, in order. `stuck`: no awaited change happens. `patience`:
    seconds until somebody presses Ctrl-C. `exit_code`: a created VM runs a process that has ended with it. No image is `absent`."""

    asked: list[tuple[str, Any]] = field(default_factory=list)
    bases: set[str] = field(default_factory=set)
    tokens: set[str] = field(default_factory=set)
    seconds: float = 0.0
    patience: float = 1000.0
    stuck: bool = False
    taken: bool = False
    state: str = "running"
    exit_code: int | None = None
    deleted: bool = False
    volumes: list[dict[str, Any]] = field(default_factory=list)
    snapshots: list[dict[str, Any]] = field(default_factory=lambda: [SNAPSHOT])

    def answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode()
        body = json.loads(request.content) if request.content else None
        self.asked.append((f"{request.method} {path}", body))
        self.bases.add(f"{request.url.scheme}://{request.url.netloc.decode()}")
        self.tokens.add(request.headers.get("Authorization", ""))
        status, shown = self._reply(request.method, path.partition("?")[0].split("/")[2:], body)
        if "?reference=absent" in path:
            shown = {"items": [], "total": 0}
        if isinstance(shown, str):
            return httpx.Response(status, text=shown)
        return httpx.Response(status, json=shown) if shown is not None else httpx.Response(status)

    def _reply(self, method: str, parts: list[str], body: Any) -> tuple[int, Any]:
        if parts[:2] == ["hosts", "join-tokens"]:
            return 201, {"token": "nqr_join", "host": "h2", "expires_at": AT}
        if parts[0] == "audit":
            first = len([call for call, _ in self.asked if "/v1/audit" in call]) == 1
            return 200, {"items": [AUDIT] if first else []}
        if parts[0] == "events":
            first = len([call for call, _ in self.asked if "/v1/events" in call]) == 1
            return 200, {"items": [EVENT] if first else []}
        if parts[0] == "auth":
            return (
                (200, {"token": "nqr_s", "expires_at": AT, "username": "ann", "role": "admin"})
                if parts[1] == "login"
                else (204, None)
            )
        if parts[:2] == ["images", "pull"]:
            return 202, {**IMAGE, "state": "downloading"}
        if parts[:2] == ["images", "scan"] or (method == "GET" and len(parts) == 1):
            return 200, {"items": [RESOURCES[parts[0]]], "total": 1}
        if method == "POST" and parts == ["templates"] and self.taken:
            return 409, {"title": "conflict", "status": 409, "detail": "There is one.", "code": "NQR-API-105"}
        if parts[0] == "vms":
            return self._vm(method, parts[2:], body)
        return (204, None) if method == "DELETE" else (200, RESOURCES[parts[0]])

    def _vm(self, method: str, rest: list[str], body: Any) -> tuple[int, Any]:
        if rest[:1] == ["snapshots"]:
            return self._snapshot(method, rest, body)
        if rest == ["console", "log"] and not self.deleted:
            return 200, "booting\nup\n"
        if rest == ["exec-ticket"]:
            return 200, {"ticket": "t", "path": "/exec", "expires_in": 30}
        if rest == ["console-ticket"]:
            return 200, {"ticket": "t", "path": "/console", "expires_in": 30}
        if method == "DELETE" and not rest:
            self.deleted = True
            return 204, None
        if rest[:1] == ["volumes"]:
            self.volumes = [{**ATTACHED, "change": "attaching" if method == "POST" else "detaching"}]
            shown = self._shown()
            self.volumes = self.volumes if self.stuck else [ATTACHED] if method == "POST" else []
            return 202, shown
        if self.deleted and not self.stuck:
            return 404, {"title": "gone", "status": 404, "detail": "There is no such VM.", "code": "NQR-API-103"}
        if method == "POST" and not rest and body.get("start") is False:
            self.state = "stopped"
        self.state = REACHED.get(rest[0], self.state) if rest else self.state
        if self.exit_code is not None:
            self.state = "stopped"
        return 200, self._shown()

    def _shown(self) -> dict[str, Any]:
        up = self.state == "running" and not self.stuck
        return {
            **VM,
            "state": "unknown" if self.stuck else self.state,
            "guest_up_at": AT if up else None,
            "volumes": self.volumes,
            "exit_code": self.exit_code,
        }

    def _snapshot(self, method: str, rest: list[str], body: Any) -> tuple[int, Any]:
        if self.stuck:
            self.snapshots = [{**SNAPSHOT, "state": "creating"}]
        elif method == "DELETE":
            self.snapshots = []
        elif body:
            self.snapshots = [{**SNAPSHOT, **body}]
        if method == "GET":
            return 200, {"items": self.snapshots, "total": len(self.snapshots)}
        if rest[-1] == "restore":
            self.state = "stopped"  # its kind is disk
        return (200, self._shown()) if rest[-1] == "restore" else (202, SNAPSHOT)

    # --- the clock

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        if self.seconds >= self.patience:
            raise Stopped("SIGINT")

    def install(self, patch: pytest.MonkeyPatch) -> FakeManager:
        real = ManagerClient.__init__

        def opened(client: ManagerClient, base_url: str, token: str | None = None, **more: Any) -> None:
            real(client, base_url, token, transport=httpx.MockTransport(self.answer), **more)

        patch.setattr(ManagerClient, "__init__", opened)
        for module in (client_module, waiting, vm_snapshots, vm_watching, event_commands):
            patch.setattr(module, "time", self)
        return self
