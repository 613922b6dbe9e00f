"""Runs in network and mount namespaces, started by tests/live/agent/test_guest_sessions_long.py: many commands, a large file.

guest_sessions_long.py IMAGE_FOLDER WORK_FOLDER COMMANDS MEBIBYTES     prints one JSON object of what was seen
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.machine_scripts.guest_sessions import MIB, Ran
from tests.machine_scripts.vms_on_a_bridge import A, Site, guest, up
from websockets.sync.client import connect

from nqrust.cli.vm import copy
from nqrust.cli.vm.guest_session import Session
from nqrust.client.agent import AgentClient

_AGES = (
    'for one in /proc/[0-9]*/stat; do read -r line <$one; case $line in *"(guest-agent)"*) set -- $line; echo ${22};; esac; done; '
    "cut -d' ' -f1 /proc/uptime"
)
"""Prints when the processes of the guest agent started, in ticks since the guest's boot, and the seconds since then: proc(5)."""
COMMANDS, MEBIBYTES = int(sys.argv[3]), int(sys.argv[4])


def many(client: AgentClient) -> dict[str, Any]:
    """Each command gets bytes, gives them back and ends with its own code."""
    wrong: list[Any] = []
    started = time.monotonic()
    for number in range(COMMANDS):
        data = f"{number}:".encode() * (number % 50)
        ran = Ran(client, A, f"cat; echo {number} >&2; exit {number % 256}")
        found = (ran.end(data), bytes(ran.out), bytes(ran.err))
        if found != (number % 256, data, f"{number}\n".encode()):
            wrong.append([number, str(found)[:200]])
    return {"wrong": wrong, "ms_each": round((time.monotonic() - started) / COMMANDS * 1000, 1)}


def large(client: AgentClient, work: Path) -> dict[str, Any]:
    @contextmanager
    def opened(sink: Any, woken: Any) -> Iterator[Session]:
        with connect(client.exec_url(A), **asyncio.run(client.console_options()), proxy=None, compression=None) as connection:
            yield Session(connection, "web1", sink, woken)

    def digest(path: Path) -> str:
        with path.open("rb") as file:
            found = hashlib.sha256()
            while piece := file.read(MIB):
                found.update(piece)
        return found.hexdigest()

    source, back = work / "large", work / "back"
    with source.open("wb") as file:
        for _ in range(MEBIBYTES):
            file.write(os.urandom(MIB))
    started = time.monotonic()
    copy.upload(opened, "web1", str(source), "/root/large")
    up = time.monotonic() - started
    there = Ran(client, A, "sha256sum /root/large")
    there.end()
    started = time.monotonic()
    copy.download(opened, "web1", "/root/large", str(back))
    down = time.monotonic() - started
    return {
        "equal": digest(source) == digest(back) == there.out.split()[0].decode(),
        "up_mib": round(MEBIBYTES / up, 1),
        "down_mib": round(MEBIBYTES / down, 1),
    }


def resident(pid: int) -> int:
    """KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def first_answer(client: AgentClient) -> tuple[float, float]:
    """Return when the guest ran its first command, and when its guest agent started: seconds since the epoch."""
    while Ran(client, A, "exit 7").end() != 7:
        time.sleep(0.02)
    answered = time.time()
    ran = Ran(client, A, _AGES)
    assert ran.end() == 0
    *agents, up = ran.out.decode().split()
    return answered, time.time() - float(up) + min(int(ticks) for ticks in agents) / 100


def vmm_started(vm_id: str) -> float:
    """Return when the VM's QEMU started, in seconds since the epoch, to a hundredth."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "comm").read_text().startswith("qemu") and vm_id in (process / "cmdline").read_text():
                ticks = int((process / "stat").read_text().rpartition(")")[2].split()[19])
                return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / 100
    raise AssertionError(f"no QEMU has {vm_id} in its command line")


async def scenario(site: Site) -> dict[str, Any]:
    site.start_agent()
    await up(site)
    async with site.client() as client:
        began = time.time()
        await client.put_vm(site.spec(A, "web1", "10.0.0.20", disk_mib=MEBIBYTES + 256))
        answered = asyncio.create_task(asyncio.to_thread(first_answer, client))
        await guest(client, A)
        seen: dict[str, Any] = {"reported": time.time() - began}
        at, ready = await answered
        started = vmm_started(A)
        seen |= {"answered": at - began, "started": started - began, "boot": ready - started}
        assert site.agent is not None
        seen |= {"many": await asyncio.to_thread(many, client)}
        before = resident(site.agent.pid)
        seen["large"] = await asyncio.to_thread(large, client, site.work)
        seen["agent_kib"] = [before, resident(site.agent.pid)]
        await client.delete_vm(A)
    return seen


if __name__ == "__main__":
    Site(Path(sys.argv[1]), Path(sys.argv[2])).answer(scenario)
