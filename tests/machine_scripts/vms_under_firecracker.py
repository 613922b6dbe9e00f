"""Runs in network and mount namespaces, started by tests/live/agent/test_real_firecracker.py: an agent and a real, jailed
Firecracker, with a guest that boots in milliseconds.

vms_under_firecracker.py IMAGE_FOLDER WORK_FOLDER PROGRAMS VMM     prints one JSON object of what was seen
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.machine_scripts.vms_on_a_bridge import BRIDGE, A, B, Site, typed, up

import nqrust
from nqrust.client.agent import AgentClient
from nqrust.contract.agent import VmStatus
from nqrust.contract.images import GuestProcess
from nqrust.contract.names import ifb_name, tap_name
from nqrust.contract.paths import GUEST_FOLDER
from nqrust.contract.vms import StopRequest
from nqrust.host.local import LocalHost

NEWER = "99.1.0"
C = "00000003-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
BOOT = re.compile(r"boot ([0-9a-f]{16})")


async def said(client: AgentClient, vm_id: str, text: str, seconds: float = 90.0) -> str:
    """The console log, once `text` is in it."""
    end = time.monotonic() + seconds
    while text not in (log := await client.console_log(vm_id)):
        if time.monotonic() > end:
            raise SystemExit(f"the guest never said {text!r}:\n{log}")
        await asyncio.sleep(0.02)
    return log


async def booted_times(client: AgentClient, vm_id: str, times: int) -> None:
    """Once the guest has told that it is ready so often."""
    end = time.monotonic() + 90
    while (await client.console_log(vm_id)).count("ready, boot ") < times:
        if time.monotonic() > end:
            raise SystemExit(f"the guest did not boot {times} times")
        await asyncio.sleep(0.02)


async def connected(tap: str, seconds: float = 30.0) -> bool:
    """Whether a TAP becomes a port of the bridge, and up."""
    end, link = time.monotonic() + seconds, Path("/sys/class/net", tap)
    while time.monotonic() < end:
        if (link / "master").exists() and int((link / "flags").read_text(), 16) & 1:
            return (link / "master").resolve().name == BRIDGE
        await asyncio.sleep(0.1)
    return False


def way(tap: str) -> list[bool]:
    """Whether frames from the TAP have a header, and whether they pass a device first that leaves its work to the kernel."""
    shown = subprocess.run(["tc", "filter", "show", "dev", tap, "parent", "ffff:"], capture_output=True, text=True).stdout
    led = f"Redirect to device {ifb_name(tap)})" in shown and LocalHost().leave_no_work(ifb_name(tap)) == ()
    return [int(Path("/sys/class/net", tap, "tun_flags").read_text(), 16) & 0x4000 != 0, led]


async def settled(client: AgentClient, vm_id: str, seconds: float = 60.0) -> VmStatus:
    """The VM, once it runs no more."""
    end = time.monotonic() + seconds
    while (status := await client.get_vm(vm_id)) is not None and status.state in ("running", "paused"):
        if time.monotonic() > end:
            break
        await asyncio.sleep(0.05)
    assert status is not None
    return status


def privileges(pid: int) -> dict[str, Any]:
    """What proc(5) says of a process."""
    lines = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    return {
        "name": lines["Name"],
        "uids": sorted(set(map(int, lines["Uid"].split()))),
        "gids": sorted({*map(int, lines["Gid"].split()), *map(int, lines["Groups"].split())}),
        "capabilities": sorted({lines[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")}),
        "no_new_privileges": lines["NoNewPrivs"],
        "seccomp": lines["Seccomp"],
    }


def reached(pid: int, paths: list[str]) -> list[str]:
    """Those of `paths` that a process like `pid` (its user, groups and mounts) may open."""
    status = privileges(pid)
    user = str(status["uids"][0])
    test = 'for path do [ -r "$path" ] || [ -w "$path" ] && echo "$path"; done; true'
    command = ["nsenter", "-t", str(pid), "-m", "setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups",
               "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "sh", "-c", test, "sh", *paths]  # fmt: skip
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def makes_files(pid: int, *folders: Path) -> list[str]:
    """Where below `folders`, and in which folders for everybody, a process like `pid` can make a file."""
    user = str(privileges(pid)["uids"][0])
    below = [str(folder) for top in folders for folder, _, _ in os.walk(top)]
    test = 'for path do (: >"$path/made") 2>/dev/null && echo "$path"; done; true'
    command = ["nsenter", "-t", str(pid), "-m", "setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups",
               "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "sh", "-c", test, "sh", *below, "/dev/shm", "/var/tmp", "/tmp"]  # fmt: skip
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


async def scenario(site: Site) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    site.start_agent()
    await up(site)
    vms = site.work / "fc" / "vms"
    async with site.client() as client:
        began = time.monotonic()
        first = await client.put_vm(site.spec(A, "web1", "10.0.0.20", volumes=[{"device": "vdb", "size_mib": 16, "keep": True}]))
        booted = BOOT.search(await said(client, A, "ready, boot "))
        seen["seconds_to_first_line"] = round(time.monotonic() - began, 3)
        assert booted is not None
        seen["first"] = [first.state, first.vmm, first.accel, len(first.pids)]
        await client.put_vm(site.spec(B, "web2", "10.0.0.21"))
        await said(client, B, "ready, boot ")

        # what the VMM and the console are allowed
        vmm = first.pids[0]
        seen["vmm"] = privileges(vmm)
        (screen,) = [int(p) for p in os.listdir("/proc") if p.isdigit() and is_screen_of(int(p), seen["vmm"]["uids"][0])]
        seen["screen"] = privileges(screen)
        seen["vmm_is_found"] = str(vmm) in site.leftovers()
        async with client.connect_console(A) as socket:
            await asyncio.wait_for(socket.recv(), 30)  # the viewer is there
            seen["surroundings"] = surroundings(seen["vmm"]["uids"][0])
        others = [str(path) for path in (vms / B).rglob("*") if not path.is_dir()]
        seen["others"] = len(others)
        configuration = [str(site.work / "state" / name) for name in os.listdir(site.work / "state")]
        seen["reached"] = reached(screen, [*others, *configuration, "/etc/shadow", f"{vms}/{A}/vm.json"])
        seen["reached"] = [path for path in seen["reached"] if not path.endswith("/screenrc")]
        own = (vms / A, site.work / "state" / "screen" / str(seen["vmm"]["uids"][0]))
        seen["makes_files"] = [makes_files(screen, *own)]
        seen["own_folders"] = sum(len(folders) for top in own for _, folders, _ in os.walk(top))
        seen["root"] = sorted(os.listdir(f"/proc/{vmm}/root/"))

        # console both ways
        seen["typed"] = await typed(client, A, "count", "count", "id", wait=0.5)
        seen["boot_id_shown"] = booted[1] in seen["typed"]

        # pause, resume, limits
        seen["paused"] = [(await client.pause_vm(A)).state, (await client.resume_vm(A)).state]
        limits = {"disk_kib": 1024, "disk_iops": 50, "net_rx_kbit": 1000, "net_tx_kbit": 2000}
        volumes = [{"device": "vdb", "size_mib": 16, "keep": True}]
        limited = await client.put_vm(site.spec(A, "web1", "10.0.0.20", generation=2, volumes=volumes, rate_limits=limits))
        seen["limited"] = limited.state

        # memory of a snapshot, in another process
        await typed(client, A, "fill 16", wait=0.5)
        snapshot = await client.create_snapshot(A, "one")
        seen["snapshot"] = [snapshot.kind, (await client.get_vm(A) or first).pids == first.pids]
        seen["count_after"] = "counter 3" in await typed(client, A, "count", wait=0.5, until="counter 3")
        await client.stop_vm(A)
        before = len(await client.console_log(A))
        began = time.monotonic()
        restored = await client.restore_snapshot(A, "one")
        seen["seconds_to_restore"] = round(time.monotonic() - began, 3)
        seen["restored"] = [restored.state, restored.pids != first.pids]
        shown = await typed(client, A, "count", "id", wait=0.5)
        seen["went_on"] = ["counter 3" in shown, booted[1] in shown, before > 0]
        seen["snapshot_again"] = (await client.create_snapshot(A, "two")).kind
        (screen,) = [int(p) for p in os.listdir("/proc") if p.isdigit() and is_screen_of(int(p), seen["vmm"]["uids"][0])]
        seen["makes_files"].append(makes_files(screen, *own))

        # the agent is killed, and its successor is another process
        assert site.agent is not None
        site.agent.kill()
        site.agent.wait()
        tap = tap_name(A)
        subprocess.run(
            ["ip", "link", "set", "dev", tap, "netns", str(restored.pids[0])], check=True
        )  # as if it had not come to that
        site.start_agent()
        await up(site)
        after = await client.get_vm(A)
        seen["connected"] = await connected(tap)
        seen["way"] = way(tap)
        seen["after_kill"] = after is not None and [after.state, after.pids == restored.pids]
        seen["typed_after_kill"] = "counter 4" in await typed(client, A, "count", wait=0.5, until="counter 4")

        # the agent is replaced by a newer one, from another folder
        new = newer_copy(site.work / "newer")
        seen["old_version"] = (await client.health()).version
        site.agent.terminate()
        seen["old_agent_ended"] = site.agent.wait(40)
        seen["alone"] = [os.path.exists(f"/proc/{pid}") for pid in restored.pids]
        site.start_agent(new)
        await up(site)
        seen["new_version"] = (await client.health()).version
        upgraded = await client.get_vm(A)
        seen["after_upgrade"] = upgraded is not None and [upgraded.state, upgraded.pids == restored.pids]
        seen["typed_after_upgrade"] = "counter 5" in await typed(client, A, "count", wait=0.5, until="counter 5")

        # a graceful stop, a forced one, a reset, a crash
        began = time.monotonic()
        stopped = await client.stop_vm(A)
        seen["stop"] = [stopped.state, (vms / A / "exit-status").read_text().strip(), time.monotonic() - began < 10]
        seen["asked"] = await client.console_log(A)
        await client.put_vm(site.spec(A, "web1", "10.0.0.20", generation=3, volumes=volumes))
        await booted_times(client, A, 2)
        forced = await client.stop_vm(A, StopRequest(force=True))
        seen["forced"] = [forced.state, (vms / A / "exit-status").exists()]
        await client.put_vm(site.spec(A, "web1", "10.0.0.20", generation=4, volumes=volumes))
        await booted_times(client, A, 3)
        await typed(client, A, "reset", wait=0.3)
        off = await settled(client, A)
        seen["reset"] = [off.state, off.exit_reason]
        again = await client.put_vm(site.spec(A, "web1", "10.0.0.20", generation=5, volumes=volumes))
        os.kill(again.pids[0], signal.SIGSEGV)
        dead = await settled(client, A)
        seen["killed"] = [dead.state, dead.exit_reason]

        # a flood
        await typed(client, B, "flood 3000", wait=1.0)
        for _ in range(300):
            log = vms / B / "console.log"
            if log.stat().st_size < 400_000:
                break
            await asyncio.sleep(0.1)
        seen["flood"] = [
            log.stat().st_size,
            log.stat().st_uid == privileges((await client.get_vm(B) or first).pids[0])["uids"][0],
        ]

        seen["process"] = await process_of_a_container(site, client, vms)

        await client.delete_vm(A)
        await client.delete_vm(B)
        seen["left"] = {
            "vms": os.listdir(vms),
            "processes": site.leftovers(),
            "consoles": os.listdir(site.work / "state" / "screen"),
            "taps": [name for name in os.listdir("/sys/class/net") if name.startswith(("tap", "ifb"))],
            "mounts": [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(site.work) in line],
        }
    return seen


async def process_of_a_container(site: Site, client: AgentClient, vms: Path) -> dict[str, Any]:
    """What the init of a guest finds on its disk, and what the agent makes of the line with which it ends."""
    process = GuestProcess(argv=["serve", "a b"], env=["A=1"], user="web")
    codes = []
    for generation, code in ((1, 3), (2, 0)):
        await client.put_vm(
            site.spec(C, "job", "10.0.0.22", generation=generation, process=process.model_dump(), restart_policy="never")
        )
        await booted_times(client, C, generation)
        running = await client.get_vm(C)
        await typed(client, C, f"end {code}", wait=0.3)
        ended = await settled(client, C)
        codes.append([running and running.exit_code, ended.state, ended.exit_reason, ended.exit_code])
    told = subprocess.run(["debugfs", "-R", f"cat {GUEST_FOLDER}/process", vms / C / "disk.ext4"], capture_output=True, text=True)
    await client.delete_vm(C)
    return {"codes": codes, "file": told.stdout}


def newer_copy(folder: Path) -> Path:
    """A copy of the package that calls itself newer."""
    shutil.copytree(Path(nqrust.__file__).parent, folder / "nqrust", ignore=shutil.ignore_patterns("__pycache__"))
    names = folder / "nqrust" / "__init__.py"
    names.write_text(names.read_text().replace(nqrust.__version__, NEWER))
    return folder


def surroundings(user: int) -> dict[str, dict[str, Any]]:
    """What each process of that user sees of the host, by its name."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if privileges(int(pid))["uids"] != [user]:
                continue
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            viewer = "viewer of " if b"-x" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") else ""
            links = [line.partition(":")[0].strip() for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]]
            listed = os.listdir(f"/proc/{pid}/root/run")
            status = Path(f"/proc/{pid}/status").read_text()
        except (OSError, KeyError):
            continue
        found[f"{viewer}{name}"] = {
            "shared": [
                kind
                for kind in ("net", "ipc", "mnt")
                if os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}")
            ],
            "links": links,
            "run": listed,
            "filtered": "Seccomp:\t2" in status,
        }
    return found


def is_screen_of(pid: int, user: int) -> bool:
    try:
        found = privileges(pid)
    except (OSError, KeyError):
        return False
    return bool(found["name"] == "screen" and found["uids"] == [user])


def main() -> None:
    image, work, programs, vmm = sys.argv[1:]
    site = Site(Path(image), Path(work))
    site.run_under(vmm, programs)
    site.answer(scenario)


if __name__ == "__main__":
    main()
