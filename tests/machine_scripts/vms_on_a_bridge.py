"""Runs in network and mount namespaces, started by tests/live/agent/test_agent_live.py: a bridge, dnsmasq, an agent, VMs under emulation.

vms_on_a_bridge.py IMAGE_FOLDER WORK_FOLDER     prints one JSON object of what was seen
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosedOK

from nqrust.client.agent import AgentClient, AgentRefused, AgentUnreachable
from nqrust.contract import names
from nqrust.contract.agent import ImageRef, VmSpec, VmStatus
from nqrust.contract.images import ImageManifest

BRIDGE, GATEWAY = "fcbr0", "10.0.0.1"
BINARIES = "/usr/local/sbin"
A, B, C = (f"{n}{'1' * 7}-aaaa-4aaa-8aaa-{'a' * 12}" for n in "abc")
LARGE = b"x" * 90 + b"\n"


class Site:
    def __init__(self, image: Path, work: Path) -> None:
        self.work = work
        self.manifest = ImageManifest.model_validate_json((image / "image.json").read_bytes())
        (work / "images").mkdir()
        (work / "images" / self.manifest.name).symlink_to(image)
        for name in ("fc", "dhcp"):
            (work / name).mkdir()
        (work / "dhcp" / "hosts.d").mkdir()
        self.env = {
            **os.environ,
            "AGENT_BIND": "127.0.0.1:19090",
            "MANAGER_BASE": "http://127.0.0.1:18080",
            "FC_RUN_DIR": f"{work}/fc",
            "FC_BRIDGE": BRIDGE,
            "AGENT_IMAGE_ROOT": f"{work}/images",
            "AGENT_STATE_DIR": f"{work}/state",
            "AGENT_JOIN_TOKEN_FILE": f"{work}/none",
            "AGENT_VMM_VERDICT": f"{work}/none",
            "AGENT_DHCP_HOSTS_DIR": f"{work}/dhcp/hosts.d",
            "AGENT_DHCP_LEASES": f"{work}/dhcp/leases",
            "AGENT_NAME": "live",
        }
        self.agent: subprocess.Popen[bytes] | None = None
        self.dnsmasq: subprocess.Popen[bytes] | None = None

    def run_under(self, vmm: str, programs: str) -> None:
        """VMs of this site run under `vmm` with KVM. `programs`: folder with Firecracker and its jailer; "-": none is needed."""
        if programs != "-":  # where the agent looks for programs, for this mount namespace alone
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", BINARIES], check=True)
            for name in ("firecracker", "jailer"):
                shutil.copy(f"{programs}/{name}", f"{BINARIES}/{name}")
        self.env["AGENT_VMM"] = vmm
        (self.work / "none").write_text(json.dumps({"vmm": vmm, "accel": "kvm", "reason": "the test says so"}))

    def answer(self, work: Callable[[Site], Coroutine[Any, Any, Any]]) -> None:
        """Print as JSON what `work` sees here. If it fails, show the agent's log. Nothing of the site is left in any case."""
        try:
            self.network()
            json.dump(asyncio.run(work(self)), sys.stdout)
        except BaseException:
            shutil.copyfileobj((self.work / "agent.log").open(), sys.stderr)
            raise
        finally:
            self.close()

    def network(self) -> None:
        def ip(line: str) -> None:
            subprocess.run(["ip", *line.split()], check=True)

        subprocess.run(["mount", "-t", "sysfs", "sysfs", "/sys"], check=True)  # the outer one shows the outer links
        ip("link set lo up")
        ip(f"link add {BRIDGE} type bridge")
        ip(f"addr add {GATEWAY}/24 dev {BRIDGE}")
        ip(f"link set {BRIDGE} up")
        self.dnsmasq = subprocess.Popen(
            [
                "dnsmasq",
                "-k",
                "--conf-file=/dev/null",
                "--user=root",
                "--port=0",
                f"--interface={BRIDGE}",
                "--bind-interfaces",
                "--dhcp-range=10.0.0.10,static,255.255.255.0,1h",
                f"--dhcp-hostsdir={self.work}/dhcp/hosts.d",
                "--no-ping",
                f"--dhcp-leasefile={self.work}/dhcp/leases",
                f"--log-facility={self.work}/dnsmasq.log",
            ],
        )

    def start_agent(self, code: Path | None = None) -> None:
        """`code`: a folder with another copy of the package."""
        other = {"PYTHONPATH": f"{code}:{os.environ['PYTHONPATH']}"} if code else {}
        with (self.work / "agent.log").open("ab") as log:
            self.agent = subprocess.Popen(
                [sys.executable, "-m", "nqrust.agent"], env={**self.env, **other}, stdout=log, stderr=log
            )

    def client(self) -> AgentClient:
        return AgentClient("http://127.0.0.1:19090", (self.work / "state" / "local-token").read_text().strip())

    def spec(self, vm_id: str, name: str, ip: str, **changes: Any) -> VmSpec:
        m = self.manifest
        image = ImageRef(
            name=m.name, rootfs=m.rootfs, kernel=m.kernel, kernel_elf=m.kernel_elf, initrd=m.initrd, cmdline=m.cmdline
        )
        values = {
            "id": vm_id,
            "name": name,
            "vcpus": 1,
            "memory_mib": 128,
            "disk_mib": 48,
            "image": image,
            "ip": ip,
            "mac": names.mac_address(vm_id),
            "tap": names.tap_name(vm_id),
            "guest_token": f"token-{name}",
        }
        return VmSpec.model_validate({**values, **changes})

    def close(self) -> None:
        for process in (self.agent, self.dnsmasq):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        for pid in self.leftovers():
            os.kill(int(pid), signal.SIGKILL)

    def leftovers(self) -> list[str]:
        """Processes of our VMs, found without the agent's own code. A jailed VMM has no environment, but files of ours."""
        marker = f"NQRUST_RUN_DIR={self.work}/fc".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                jailed = (folder / "comm").read_text().startswith(("firecracker", "jailer"))
                if (jailed and f"/{self.work.name}/" in (folder / "mountinfo").read_text()) or marker in (
                    folder / "environ"
                ).read_bytes().split(b"\0"):
                    found.append(folder.name)
            except OSError:
                continue
        return found


async def up(site: Site) -> None:
    for _ in range(200):
        try:
            async with site.client() as client:
                await client.health()
            return
        except (AgentUnreachable, FileNotFoundError):
            await asyncio.sleep(0.1)
    raise SystemExit("the agent does not come up:\n" + (site.work / "agent.log").read_text())


async def guest(client: AgentClient, vm_id: str) -> VmStatus:
    for _ in range(600):
        status = await client.get_vm(vm_id)
        if status is not None and status.guest is not None:
            return status
        await asyncio.sleep(0.1)
    raise SystemExit("the guest does not report:\n" + await client.console_log(vm_id))


async def typed(client: AgentClient, vm_id: str, *lines: str, wait: float = 1.5, until: str = "") -> str:
    """What the console shows after each line was typed, for `wait` seconds each. `until`: what the last line brings, in 20 s at
    most."""
    shown = b""
    async with client.connect_console(vm_id) as socket:
        for number, line in enumerate(("", *lines)):
            await socket.send(line.encode() + b"\r")
            last = bool(until) and number == len(lines)
            end = time.monotonic() + (20 if last else wait)
            while (left := end - time.monotonic()) > 0 and not (last and until.encode() in shown):
                try:
                    piece = await asyncio.wait_for(socket.recv(), left)
                except asyncio.TimeoutError:
                    break
                except ConnectionClosedOK:  # the guest powered off
                    return shown.decode(errors="replace")
                shown += piece if isinstance(piece, bytes) else piece.encode()
    return shown.decode(errors="replace")


async def scenario(site: Site) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    site.start_agent()
    await up(site)
    async with site.client() as client:
        started = time.monotonic()
        first = await client.put_vm(site.spec(A, "web1", "10.0.0.20"))
        seen["put_seconds"] = round(time.monotonic() - started, 3)
        again = await asyncio.gather(*(client.put_vm(site.spec(A, "web1", "10.0.0.20")) for _ in range(4)))
        seen["pids"] = [first.pids, *(status.pids for status in again)]
        before = await guest(client, A)
        seen["seconds_to_report"] = round(time.monotonic() - started, 3)
        seen["guest"] = before.model_dump(mode="json")
        seen["login"] = await typed(client, A, "root", "hostname; echo $((6 * 7))")
        two = await asyncio.gather(typed(client, A, "echo from-one"), typed(client, A, wait=3))
        seen["second_viewer"] = two[1]
        seen["isolated"] = (Path("/sys/class/net") / names.tap_name(A) / "brport" / "isolated").read_text().strip()

        # the agent is killed while a viewer is attached, and comes back
        assert site.agent is not None
        async with client.connect_console(A):
            site.agent.kill()
            site.agent.wait()
        seen["alive_without_agent"] = os.path.exists(f"/proc/{first.pids[0]}")
        site.start_agent()
        await up(site)
        after = await client.get_vm(A)
        assert after is not None
        seen["after_kill"] = [after.pids == first.pids, after.guest is not None and after.guest == before.guest, after.state]
        seen["put_after_kill"] = (await client.put_vm(site.spec(A, "web1", "10.0.0.20"))).pids == first.pids

        # an orderly stop of the agent with a viewer attached is quick and leaves the VM alone
        async with client.connect_console(A):
            started = time.monotonic()
            site.agent.terminate()
            site.agent.wait(40)
        seen["agent_stop"] = [
            site.agent.returncode,
            round(time.monotonic() - started, 2),
            os.path.exists(f"/proc/{first.pids[0]}"),
        ]
        site.start_agent()
        await up(site)

        seen["paused"] = [
            (await client.pause_vm(A)).state,
            (await client.get_vm(A) or first).state,
            (await client.resume_vm(A)).state,
        ]

        # a flood on the serial port
        log = site.work / "fc" / "vms" / A / "console.log"
        with log.open("ab") as file:
            file.write(LARGE * 14_000)
        for _ in range(200):
            if log.stat().st_size < 300_000:
                break
            await asyncio.sleep(0.1)
        await typed(client, A, "echo after-$((1 + 1))-the-cut")
        seen["log_size"] = log.stat().st_size
        seen["log_goes_on"] = "after-2-the-cut" in await client.console_log(A)

        # graceful stop, start again, another generation
        started = time.monotonic()
        stopped = await client.stop_vm(A)
        seen["stop"] = [
            stopped.state,
            stopped.tap,
            round(time.monotonic() - started, 2),
            (site.work / "fc" / "vms" / A / "exit-status").read_text().strip(),
        ]
        await client.put_vm(site.spec(A, "web1", "10.0.0.20", generation=2))
        rebooted = await guest(client, A)
        seen["another_boot"] = (
            rebooted.guest is not None and before.guest is not None and (rebooted.guest.boot_id != before.guest.boot_id)
        )

        # the VMM dies; the VM goes; its address is another's
        os.kill(rebooted.pids[0], signal.SIGKILL)
        await asyncio.sleep(1)
        dead = await client.get_vm(A)
        assert dead is not None
        seen["killed"] = [dead.state, dead.exit_reason]
        await client.delete_vm(A)
        seen["gone"] = await client.get_vm(A) is None
        await client.put_vm(site.spec(B, "web2", "10.0.0.20"))
        heir = await guest(client, B)
        seen["heir_ip"] = heir.guest.ip if heir.guest else None

        # screen dies, the VM does not; then the guest powers itself off
        (screen,) = (p for p in site.leftovers() if Path(f"/proc/{p}/comm").read_text().strip() == "screen")
        os.kill(int(screen), signal.SIGKILL)
        await asyncio.sleep(0.5)
        without = await client.get_vm(B)
        seen["without_screen"] = without is not None and without.pids == heir.pids
        try:
            async with client.connect_console(B) as socket:
                await socket.recv()
            seen["console_gone"] = "open"
        except Exception as error:
            seen["console_gone"] = str(error)
        await client.stop_vm(B)
        await client.put_vm(site.spec(B, "web2", "10.0.0.20"))
        await guest(client, B)
        await typed(client, B, "root", "poweroff", wait=2.5)
        for _ in range(100):
            off = await client.get_vm(B)
            assert off is not None
            if off.state != "running":
                break
            await asyncio.sleep(0.1)
        seen["powered_off"] = [off.state, off.exit_reason]

        # a VM that cannot start leaves nothing but its record: another link has the name of its TAP
        tap = names.tap_name(C)
        subprocess.run(["ip", "link", "add", "name", tap, "type", "bridge"], check=True)
        try:
            await client.put_vm(site.spec(C, "web3", "10.0.0.22"))
        except AgentRefused as error:
            seen["refused"] = error.problem.code
        subprocess.run(["ip", "link", "delete", tap], check=True)
        inventory = await client.inventory()
        seen["inventory"] = [sorted(vm.id for vm in inventory.vms), [tap.name for tap in inventory.taps]]
        for vm in inventory.vms:
            await client.delete_vm(vm.id)
        seen["left"] = {
            "taps": [name for name in os.listdir("/sys/class/net") if name.startswith("tap")],
            "vms": os.listdir(site.work / "fc" / "vms"),
            "cache": os.listdir(site.work / "fc" / "images-cache"),
            "hosts": os.listdir(site.work / "dhcp" / "hosts.d"),
            "processes": site.leftovers(),
            "leases": (site.work / "dhcp" / "leases").read_text(),
        }
    status = Path(f"/proc/{site.agent.pid}/status").read_text()
    seen["agent_kib"] = int(status.split("VmRSS:")[1].split()[0])
    return seen


def main() -> None:
    site = Site(Path(sys.argv[1]), Path(sys.argv[2]))
    site.answer(scenario)


if __name__ == "__main__":
    main()
