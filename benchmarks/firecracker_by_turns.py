"""Runs in network and mount namespaces of its own, started by benchmarks/firecracker.py: VMs under a jailed Firecracker, by the
agent and by hand, in turns.

    firecracker_by_turns.py IMAGE_FOLDER WORK_FOLDER PROGRAMS ROUNDS     prints one JSON object: name of a figure -> seconds

By hand is what the agent asks of the jailer and of Firecracker's socket, with the same kernel, a copy of the same disk, a TAP on
the same bridge and a file as the console. A guest is up when its first line is in the file of its console.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.machine_scripts.vms_on_a_bridge import BINARIES, BRIDGE, A, B, Site, up

from nqrust.agent.vmm.firecracker import api
from nqrust.agent.vmm.port import Machine
from nqrust.contract.vms import StopRequest

READY, WAKES = b"is ready, boot ", b"counter 1"
USER, MEMORY = 1_999_000_000, 128
PAUSE = 0.001


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("the guest does not get there")
        time.sleep(PAUSE)


def has(path: Path, text: bytes) -> Callable[[], bool]:
    return lambda: path.exists() and text in path.read_bytes()


class ByHand:
    """The calls that one would make without the platform."""

    def __init__(self, site: Site, image: Path) -> None:
        self.site, self.image, self.number = site, image, 0
        self.folder = site.work / "hand"
        self.folder.mkdir()

    @contextmanager
    def _jail(self, extra: dict[str, Path]) -> Iterator[tuple[Path, Path]]:
        """A jail with kernel and disk, and a TAP; the jail's root and the file of the console."""
        self.number += 1
        name = f"hand{self.number}"
        top = self.folder / "firecracker" / name / "root"
        top.mkdir(parents=True)
        shutil.copy(self.image / "vmlinux", top / "kernel")
        shutil.copy(self.image / "rootfs.ext4", top / "disk0")
        for path, source in extra.items():
            (top / path).parent.mkdir(exist_ok=True)
            os.link(source, top / path)
        for path in ("firecracker.log", "firecracker.metrics"):
            (top / path).touch()
        (top / "snapshot").mkdir()
        for place in (top, *top.rglob("*")):
            os.chown(place, USER, USER)
        batch = f"tuntap add dev taphand mode tap user {USER}\nlink set dev taphand master {BRIDGE} up\n"
        subprocess.run(["ip", "-batch", "-"], input=batch.encode(), check=True)
        try:
            yield top, self.folder / f"{name}.console"
        finally:
            subprocess.run(["ip", "link", "delete", "taphand"], check=True)

    @contextmanager
    def _vmm(self, top: Path, log: Path) -> Iterator[Callable[..., None]]:
        """A jailed Firecracker whose socket is there; the function sends it a request."""
        argv = [f"{BINARIES}/jailer", "--id", top.parent.name, "--exec-file", f"{BINARIES}/firecracker", "--uid", str(USER),
                "--gid", str(USER), "--chroot-base-dir", self.folder, "--", "--api-sock", "/firecracker.sock"]  # fmt: skip
        with log.open("wb") as console:
            vmm = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=console, stderr=console)
        try:
            link = connection(top / "firecracker.sock")

            def send(method: str, path: str, body: dict[str, Any]) -> None:
                link.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
                answer = link.getresponse()
                text = answer.read()
                if answer.status >= 300:
                    raise SystemExit(f"{method} {path}: {answer.status} {text.decode()}")

            yield send
        finally:
            vmm.kill()
            vmm.wait()

    def create(self) -> dict[str, float]:
        began = time.monotonic()
        with self._jail({}) as (top, log):
            prepared = time.monotonic()
            with self._vmm(top, log) as send:
                for request in self.boot():
                    send(*request)
                until(has(log, READY))
                up_at = time.monotonic()
        return {"all": up_at - began, "vmm": up_at - prepared}

    def snapshot(self) -> None:
        with self._jail({}) as (top, log), self._vmm(top, log) as send:
            for request in self.boot():
                send(*request)
            until(has(log, READY))
            send("PATCH", "/vm", {"state": "Paused"})
            send(
                "PUT",
                "/snapshot/create",
                {"snapshot_type": "Full", "snapshot_path": api.NEW_STATE, "mem_file_path": api.NEW_MEMORY},
            )
            (self.folder / "saved").mkdir()
            for name in ("vmstate", "memory"):
                shutil.move(top / "snapshot" / name, self.folder / "saved" / name)

    def restore(self) -> dict[str, float]:
        began = time.monotonic()
        with self._jail({f"saved/{name}": self.folder / "saved" / name for name in ("vmstate", "memory")}) as (top, log):
            prepared = time.monotonic()
            with self._vmm(top, log) as send:
                for request in api.boot_requests(self.machine())[:2]:
                    send(*request)
                backend = {"backend_path": api.SAVED_MEMORY, "backend_type": "File"}
                send("PUT", "/snapshot/load", {"snapshot_path": api.SAVED_STATE, "resume_vm": True, "mem_backend": backend})
                resumed = time.monotonic()
        return {"all": resumed - began, "vmm": resumed - prepared}

    def boot(self) -> tuple[api.Request, ...]:
        machine = self.machine()
        return (*api.boot_requests(machine), *api.disk_requests(machine), api.begin_request(machine))

    def machine(self) -> Machine:
        none = str(self.folder)
        return Machine(
            id="hand", name="hand", vcpus=1, memory_mib=MEMORY, directory=none, disk=none, kernel=none, kernel_elf=none, initrd=None,
            cmdline=self.site.manifest.cmdline, mac="02:00:00:00:00:99", tap="taphand", user=USER, accel="kvm",
        )  # fmt: skip


def connection(path: Path) -> http.client.HTTPConnection:
    """To a Unix socket that may not be there yet."""
    link = http.client.HTTPConnection("localhost")
    end = time.monotonic() + 20
    while True:
        link.sock = socket.socket(socket.AF_UNIX)
        try:
            link.sock.connect(str(path))
        except OSError:
            link.sock.close()
            if time.monotonic() > end:
                raise
            time.sleep(PAUSE)
        else:
            return link


async def until_it_says(asked: Coroutine[Any, Any, object], said: Callable[[], bool]) -> float:
    """Send a request. Return the seconds until the guest has `said` its line: it may boot before the answer is there."""

    def heard() -> float:
        until(said)
        return time.monotonic()

    began = time.monotonic()
    line, _ = await asyncio.gather(asyncio.to_thread(heard), asked)
    return line - began


async def measure(site: Site, image: Path, rounds: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}

    def note(name: str, seconds: float) -> None:
        found.setdefault(name, []).append(seconds)

    by_hand = ByHand(site, image)
    console = site.work / "fc" / "vms" / A / "console.log"
    site.start_agent()
    await up(site)
    by_hand.snapshot()
    async with site.client() as client:
        await client.put_vm(site.spec(B, "web2", "10.0.0.21", run=False))  # keeps the image's kernel on the host
        for number in range(rounds + 1):  # the first is not counted: caches
            os.sync()
            hand = by_hand.create()
            new = client.put_vm(site.spec(A, "web1", "10.0.0.20", memory_mib=MEMORY))
            platform = await until_it_says(new, has(console, READY))
            await client.create_snapshot(A, "one")
            await client.stop_vm(A, StopRequest(force=True))
            os.sync()
            again = client.put_vm(site.spec(A, "web1", "10.0.0.20", memory_mib=MEMORY, generation=2 + number))
            started = await until_it_says(again, lambda: console.read_bytes().count(READY) == 2)
            await client.stop_vm(A, StopRequest(force=True))
            os.sync()
            back = by_hand.restore()
            began = time.monotonic()
            await client.restore_snapshot(A, "one")
            restored = time.monotonic() - began
            await client.delete_vm(A)
            if number:
                for name, value in (
                    ("create by hand", hand["all"]), ("create by hand, VMM alone", hand["vmm"]), ("create", platform),
                    ("start", started), ("restore by hand", back["all"]), ("restore by hand, VMM alone", back["vmm"]),
                    ("restore", restored),
                ):  # fmt: skip
                    note(name, value)
    return found


def main() -> None:
    image, work, programs, rounds = sys.argv[1:]
    site = Site(Path(image), Path(work))
    site.run_under("firecracker", programs)
    site.answer(lambda site: measure(site, Path(image), int(rounds)))


if __name__ == "__main__":
    main()
