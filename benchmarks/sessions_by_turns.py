"""Runs in network and mount namespaces of its own, started by benchmarks/sessions.py: VMs under QEMU, by the agent and by hand, in
turns.

    sessions_by_turns.py IMAGE_FOLDER WORK_FOLDER ROUNDS     prints one JSON object: name of a figure -> seconds

By hand is the command line that the agent gave QEMU, with a copy of the same fresh disk and a TAP on the same bridge. It ends when
the guest agent has answered the greeting. By the agent, the guest has run a command.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.machine_scripts.guest_sessions import Ran
from tests.machine_scripts.vms_on_a_bridge import BRIDGE, A, B, C, Site, up

from nqrust.client.agent import AgentClient
from nqrust.contract import guest, names
from nqrust.contract.vms import StopRequest

PAUSE = 0.001
DISK_MIB = 320


def process_of(site: Site, vm_id: str) -> Path:
    """The folder of the VM's QEMU in /proc. Other benchmarks may run VMs of this id."""
    folder = f"{site.work}/fc/vms/{vm_id}"
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "comm").read_text().startswith("qemu") and folder in (process / "cmdline").read_text():
                return process
    raise AssertionError(f"no QEMU has {vm_id} in its command line")


def started(process: Path) -> float:
    """Seconds since the epoch, to a hundredth."""
    ticks = int((process / "stat").read_text().rpartition(")")[2].split()[19])
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / 100


class ByHand:
    def __init__(self, site: Site, argv: list[str]) -> None:
        self.folder, vms = site.work / "hand", site.work / "fc" / "vms"
        (self.folder / "run").mkdir(parents=True)
        subprocess.run(["cp", "--sparse=always", vms / C / "disk.ext4", self.folder / "fresh"], check=True)
        self.argv = [word.replace(str(vms / B), str(self.folder)).replace("drive0", "disk.ext4") for word in argv]
        self.argv.remove("-S")

    def boot(self) -> float:
        """Seconds from the start of QEMU until its guest agent has answered."""
        subprocess.run(["cp", "--sparse=always", self.folder / "fresh", self.folder / "disk.ext4"], check=True)
        batch = f"tuntap add dev {names.tap_name(B)} mode tap\nlink set dev {names.tap_name(B)} master {BRIDGE} up\n"
        subprocess.run(["ip", "-batch", "-"], input=batch.encode(), check=True)
        (self.folder / "run" / "guest.sock").unlink(missing_ok=True)
        try:
            with (self.folder / "console").open("wb") as console:
                began = time.monotonic()
                vmm = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=console, stderr=console)
                try:
                    self._greet()
                    return time.monotonic() - began
                finally:
                    vmm.kill()
                    vmm.wait()
        finally:
            subprocess.run(["ip", "link", "delete", names.tap_name(B)], check=True)

    def _greet(self) -> None:
        nonce, heard = secrets.token_bytes(guest.NONCE), b""
        with connected(self.folder / "run" / "guest.sock") as link:
            link.settimeout(60)
            link.sendall(guest.hello(nonce))
            while guest.welcome(nonce) not in heard:
                data = link.recv(1 << 16)
                if not data:
                    raise SystemExit("QEMU ended: " + (self.folder / "console").read_text(errors="replace")[-2000:])
                heard += data


def connected(path: Path) -> socket.socket:
    """To a Unix socket that may not be there yet."""
    end = time.monotonic() + 20
    while True:
        link = socket.socket(socket.AF_UNIX)
        try:
            link.connect(str(path))
        except OSError:
            link.close()
            if time.monotonic() > end:
                raise
            time.sleep(PAUSE)
        else:
            return link


def first_answer(client: AgentClient) -> float:
    """When the guest ran its first command, in seconds since the epoch."""
    while Ran(client, A, "exit 7").end() != 7:
        time.sleep(PAUSE)
    return time.time()


async def measure(site: Site, rounds: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"hand": [], "platform": [], "started": []}
    site.start_agent()
    await up(site)
    async with site.client() as client:
        # It keeps the image's kernel on the host, too.
        await client.put_vm(site.spec(B, "web2", "10.0.0.21", disk_mib=DISK_MIB))
        argv = (process_of(site, B) / "cmdline").read_text().split("\0")[:-1]
        await client.stop_vm(B, StopRequest(force=True))
        await client.put_vm(site.spec(C, "web3", "10.0.0.22", disk_mib=DISK_MIB, run=False))
        by_hand = ByHand(site, argv)
        for number in range(rounds + 1):  # the first is not counted: caches
            hand = await asyncio.to_thread(by_hand.boot)
            began = time.time()
            await client.put_vm(site.spec(A, "web1", "10.0.0.20", disk_mib=DISK_MIB))
            answered = await asyncio.to_thread(first_answer, client)
            start = started(process_of(site, A))
            await client.delete_vm(A)
            if number:
                for name, value in (("hand", hand), ("platform", answered - began), ("started", start - began)):
                    found[name].append(value)
    return found


if __name__ == "__main__":
    here = Site(Path(sys.argv[1]), Path(sys.argv[2]))
    here.answer(lambda site: measure(site, int(sys.argv[3])))
