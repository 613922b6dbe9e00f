"""Runs in network and mount namespaces, started by tests/live/agent/test_containers_live.py: guests that run the process of a
container image, under emulation.

container_vms.py CASES_FILE WORK_FOLDER     prints one JSON object: name of the case -> what was seen

A case has `image` (folder), `process` (a GuestProcess), and what to do: `http` (paths to ask for), `forward` (a port of the
host that leads to port 80), `stop` (ask it to stop), `exec` (a command).
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.machine_scripts.guest_sessions import Ran
from tests.machine_scripts.vms_on_a_bridge import Site, up

from nqrust.client.agent import AgentClient
from nqrust.contract.agent import ImageRef, VmStatus
from nqrust.contract.images import ImageManifest

AT_ONCE = 2


def vm_id(number: int) -> str:
    return f"{number:08d}-aaaa-4aaa-8aaa-aaaaaaaaaaaa"


def peer() -> subprocess.Popen[bytes]:
    """Another machine on another link, as long as the process lives: forwards are for machines like it."""
    machine = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    while os.readlink(f"/proc/{machine.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
        time.sleep(0.05)
    inside = f"nsenter --net=/proc/{machine.pid}/ns/net ip"
    for line in (
        "ip link add lan0 type veth peer name lan1",
        f"ip link set lan1 netns {machine.pid}",
        "ip addr add 192.0.2.1/24 dev lan0",
        "ip link set lan0 up",
        f"{inside} addr add 192.0.2.2/24 dev lan1",
        f"{inside} link set lan1 up",
        f"{inside} route add default via 192.0.2.1",
    ):
        subprocess.run(line.split(), check=True)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    return machine


def fetched(url: str, *, inside: int = 0, seconds: float = 60) -> str:
    """The answer, asked for until there is one. `inside`: a process whose network is used."""
    program = "import sys, urllib.request as u; print(u.build_opener(u.ProxyHandler({})).open(sys.argv[1], timeout=3).read().decode(), end='')"
    until = time.monotonic() + seconds
    while True:
        way = ["nsenter", f"--net=/proc/{inside}/ns/net"] if inside else []
        done = subprocess.run([*way, sys.executable, "-c", program, url], capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout
        if time.monotonic() > until:
            return "no answer: " + done.stderr.strip().splitlines()[-1]
        time.sleep(0.3)


async def ended(client: AgentClient, one: str, seconds: float = 90) -> VmStatus:
    until = time.monotonic() + seconds
    while (status := await client.get_vm(one)) is not None and status.state == "running" and time.monotonic() < until:
        await asyncio.sleep(0.2)
    assert status is not None
    return status


async def said(client: AgentClient, one: str, text: str, seconds: float = 60) -> str:
    """The console's log, once it has `text`."""
    until = time.monotonic() + seconds
    while text not in (log := await client.console_log(one)) and time.monotonic() < until:
        await asyncio.sleep(0.2)
    return log


async def one_case(site: Site, client: AgentClient, elsewhere: int, number: int, case: dict[str, Any]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    place = Path(case["image"])
    m = ImageManifest.model_validate_json((place / "image.json").read_bytes())
    image = ImageRef(name=m.name, rootfs=m.rootfs, kernel=m.kernel, kernel_elf=m.kernel_elf, initrd=m.initrd, cmdline=m.cmdline)
    one, address = vm_id(number), f"10.0.0.{20 + number}"
    forwards = [{"host_port": case["forward"], "guest_port": 80}] if case.get("forward") else []
    spec = site.spec(
        one,
        f"c{number}",
        address,
        image=image,
        disk_mib=m.min_disk_mib + 16,
        process=case["process"],
        forwards=forwards,
        restart_policy="never",
    )
    await client.put_vm(spec)
    await said(client, one, "nqr-init: started")
    for path in case.get("http", []):
        port, _, rest = path.partition("/")
        seen.setdefault("http", []).append(await asyncio.to_thread(fetched, f"http://{address}:{port}/{rest}"))
    if case.get("forward"):
        url = f"http://192.0.2.1:{case['forward']}/"
        seen["forwarded"] = await asyncio.to_thread(fetched, url, inside=elsewhere)
    if case.get("exec"):

        def run() -> list[Any]:
            ran = Ran(client, one, case["exec"])
            return [ran.end(), ran.out.decode()]

        await said(client, one, case.get("ready", ""))
        seen["exec"] = await asyncio.to_thread(run)
    if case.get("stop"):
        await said(client, one, case.get("ready", ""))
        started = time.monotonic()
        await client.stop_vm(one)
        seen["seconds_to_stop"] = round(time.monotonic() - started, 1)
    if case.get("runs"):
        status = await client.get_vm(one)
        assert status is not None
    else:
        status = await ended(client, one)
    seen |= {"state": status.state, "reason": status.exit_reason, "exit_code": status.exit_code}
    seen["console"] = await client.console_log(one)
    await client.delete_vm(one)
    return seen


async def scenario(site: Site, cases: dict[str, Any]) -> dict[str, Any]:
    site.start_agent()
    await up(site)
    machine = peer()
    gate = asyncio.Semaphore(AT_ONCE)
    async with site.client() as client:

        async def guarded(number: int, case: dict[str, Any]) -> Any:
            async with gate:
                return await one_case(site, client, machine.pid, number, case)

        try:
            results = await asyncio.gather(*(guarded(number, case) for number, case in enumerate(cases.values())))
        finally:
            machine.kill()
            machine.wait()
    return dict(zip(cases, results, strict=True))


if __name__ == "__main__":
    all_cases = json.loads(Path(sys.argv[1]).read_text())
    images = sorted({case["image"] for case in all_cases.values()})
    there = Site(Path(images[0]), Path(sys.argv[2]))
    for folder in images[1:]:
        (there.work / "images" / Path(folder).name).symlink_to(folder)
    there.answer(lambda site: scenario(site, all_cases))
