"""Hosts and VMs as a busy installation has them: rows for the database, and the inventories that agree with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid5

from nqrust.contract import names
from nqrust.contract.credentials import hash_token

_SPACE = UUID("6e717275-7374-4d69-9372-6f564d000000")
BOOT = "0e5f2f0c-41a1-4b6f-8d1e-6f0000000001"


def host_id(number: int) -> str:
    return str(uuid5(_SPACE, f"host{number}"))


def vm_id(number: int) -> str:
    return str(uuid5(_SPACE, f"vm{number}"))


def seed(url: str, agents: Sequence[str], vms: int) -> None:
    """One host for each URL of `agents`, one image, and `vms` running VMs with a guest's report, dealt out evenly."""
    from sqlalchemy import create_engine, insert, text

    from nqrust.manager.store.tables import Host, Image, Vm

    at = datetime.now(timezone.utc)
    image = str(uuid5(_SPACE, "image"))
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(insert(Host), [_host(number, agent, at) for number, agent in enumerate(agents)])
        connection.execute(insert(Image), [_image(image, at)])
        connection.execute(insert(Vm), [_vm(number, number % len(agents), image, at) for number in range(vms)])
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    engine.dispose()


def heartbeat(url: str) -> None:
    """As if every agent had just been heard of."""
    import psycopg

    with psycopg.connect(url) as connection:
        connection.execute("UPDATE hosts SET last_seen_at = now()")


def _image(number: str, at: datetime) -> dict[str, Any]:
    """Its files are nowhere: nothing here starts a VM."""
    blob = {"file": "rootfs", "size": 1, "sha256": "0" * 64}
    manifest = {"name": "bench", "created_at": at.isoformat(), "rootfs": blob, "kernel": blob}
    return {"id": number, "name": "bench", "path": "/nonexistent", "state": "ready", "manifest": manifest, "checked": {}}


def _host(number: int, agent: str, at: datetime) -> dict[str, Any]:
    return {
        "id": host_id(number), "name": f"host{number}", "url": agent, "agent_token_sha256": hash_token(f"agent{number}"),
        "command_token": f"command{number}", "version": "0.2.0", "boot_id": BOOT, "vmm": "firecracker", "accel": "kvm",
        "kvm": True, "state": "online", "capacity": {"cpus": 64, "memory_mib": 262144, "disk_mib": 10**6, "disk_available_mib": 10**6},
        "network": {"bridge": "fcbr0", "cidr": "10.0.0.0/24", "gateway": "10.0.0.1", "dhcp_first": "10.0.0.10", "dhcp_last": "10.0.0.250"},
        "last_seen_at": at,
    }  # fmt: skip


def _vm(number: int, host: int, image: str, at: datetime) -> dict[str, Any]:
    from nqrust.contract.vms import VmKept

    made = at - timedelta(days=1)
    return {
        "id": vm_id(number), "name": f"vm{number:05}", "host_id": host_id(host), "image_id": image, "image": "bench",
        "vcpus": 1, "memory_mib": 256, "disk_mib": 1024, "desired_state": "running", "state": "running",
        "observed_generation": 1, "ip": _ip(number), "mac": names.mac_address(vm_id(number)), "tap": names.tap_name(vm_id(number)),
        "guest_token": f"guest{number}", "guest_token_sha256": hash_token(f"guest{number}"), "guest": _guest(number),
        "guest_up_at": made, "boot_id": vm_id(number), "host_boot_id": BOOT, "created_by": "admin", "created_at": made, "started_at": made,
        "spec": VmKept.model_validate({
            "restart_policy": "on-failure", "tags": [f"team{number % 7}"],
            "forwards": [{"protocol": "tcp", "host_port": 20000 + number // 100, "guest_port": 22}] if number % 100 == 0 else [],
        }),
    }  # fmt: skip


def _ip(number: int) -> str:
    """Unique on a host of at most a few hundred VMs, whichever host that is."""
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def _guest(number: int) -> dict[str, Any]:
    return {
        "ip": _ip(number), "boot_id": vm_id(number), "uptime_seconds": 86000.5, "cpu_percent": 1.5, "memory_total_kib": 245000,
        "memory_available_kib": 180000, "disk_total_kib": 1000000, "disk_available_kib": 700000, "net_rx_bytes": 123456,
        "net_tx_bytes": 654321, "gateway": "10.0.0.1", "gateway_reachable": True, "hostname": f"vm{number:05}",
    }  # fmt: skip


def inventory(host: int, hosts: int, vms: int) -> bytes:
    """What the agent of this host answers when all is as the rows say."""
    mine = range(host, vms, hosts)
    at = datetime.now(timezone.utc).isoformat()
    return json.dumps(
        {
            "host_id": host_id(host), "boot_id": BOOT, "time": at,
            "vms": [_status(number) for number in mine],
            "taps": [{"name": names.tap_name(vm_id(number)), "vm_id": vm_id(number), "bridge": "fcbr0", "up": True} for number in mine],
            "volumes": [],
        },
        separators=(",", ":"),
    ).encode()  # fmt: skip


def _status(number: int) -> dict[str, Any]:
    started = (datetime.now(timezone.utc) - timedelta(days=1)).isoformat()
    return {
        "id": vm_id(number), "name": f"vm{number:05}", "generation": 1, "state": "running", "scope": f"fc-{vm_id(number)}.scope",
        "pids": [1000 + number], "started_at": started, "tap": names.tap_name(vm_id(number)), "mac": names.mac_address(vm_id(number)),
        "ip": _ip(number), "vmm": "firecracker", "accel": "kvm", "disk": True, "exit_reason": "", "guest": _guest(number),
        "forwards": [{"protocol": "tcp", "host_port": 20000 + number // 100, "guest_port": 22}] if number % 100 == 0 else [],
        "limits": {"memory_mib": 384, "cpu_percent": 100, "tasks": 64},
    }  # fmt: skip
