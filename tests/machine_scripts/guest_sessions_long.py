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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.machine_scripts.guest_sessions import MIB, Ran, exec_socket
from tests.machine_scripts.vms_on_a_bridge import A, Site, guest, up

from nqrust.cli.vm import copy
from nqrust.cli.vm.guest_session import Session
from nqrust.client.agent import AgentClient

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
        with exec_socket(client, A) as connection:
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


async def scenario(site: Site) -> dict[str, Any]:
    site.start_agent()
    await up(site)
    async with site.client() as client:
        await client.put_vm(site.spec(A, "web1", "10.0.0.20", disk_mib=MEBIBYTES + 256))
        await guest(client, A)
        assert site.agent is not None
        seen: dict[str, Any] = {"many": await asyncio.to_thread(many, client)}
        before = resident(site.agent.pid)
        seen["large"] = await asyncio.to_thread(large, client, site.work)
        seen["agent_kib"] = [before, resident(site.agent.pid)]
        await client.delete_vm(A)
    return seen


if __name__ == "__main__":
    Site(Path(sys.argv[1]), Path(sys.argv[2])).answer(scenario)
