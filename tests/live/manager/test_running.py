"""nqr run against a manager on a real port: it pulls from a real registry, follows the output, and exits with the code."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from tests.container_images import Image, busybox
from tests.live.container_registry import Registry
from tests.places import ROOT

from nqrust.client import calls

WEB = {"Cmd": ["httpd"], "Env": ["PATH=/bin"]}
LOG = "boot\r\nnqr-init: started httpd\r\nhello\r\n"


async def nqr(served: Any, *words: str) -> asyncio.subprocess.Process:
    base, manager = served
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "NQR_MANAGER_URL": base.replace("ws://", "http://"),
        "NQR_TOKEN": manager.admin_token,
        "SECRET": "from the environment",
    }
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "nqrust.cli", *words, env=env, stdout=pipe, stderr=pipe, stdin=asyncio.subprocess.DEVNULL
    )


async def the_vm(manager: Any, agent: Any) -> Any:
    """The one VM, once it runs on its host; its console then has a process that wrote `hello`."""

    async def log(vm_id: str, tail: int | None = None) -> str:
        return LOG

    agent.console_log = log
    for _ in range(600):
        if agent.vms:
            return next(iter(agent.vms.values()))
        await asyncio.sleep(0.1)
    raise AssertionError("no VM came")


async def test_run_pulls_follows_and_exits_with_the_code(pulling: Any, served: Any, registry: Registry) -> None:
    reference, _ = registry.push(Image([busybox()], WEB), "run/web:1")
    _, agent, _ = await pulling.host()
    process = await nqr(
        served,
        "run",
        "--insecure",
        "--rm",
        "-p",
        "8080:80",
        "-e",
        "A=1",
        "-e",
        "SECRET",
        "--memory",
        "512M",
        reference,
        "ls",
        "-l",
    )
    vm = await the_vm(pulling, agent)
    spec = agent.specs[vm.id]
    assert (spec.process.argv, spec.process.env) == (["ls", "-l"], ["PATH=/bin", "A=1", "SECRET=from the environment"])
    assert [(one.host_port, one.guest_port) for one in spec.forwards] == [(8080, 80)] and spec.memory_mib == 512
    assert spec.restart_policy == "never" and spec.name.startswith("web-")
    await pulling.until(vm.id, "running", timeout=60)
    vm = agent.vms[vm.id]
    ended = LOG + "nqr-init: ended with code 3\r\n[ 9.1] reboot: Power down\r\n"

    async def log(vm_id: str, tail: int | None = None) -> str:
        return ended

    agent.console_log = log
    vm.state, vm.exit_reason, vm.exit_code = "failed", "Its process ended with exit code 3.", 3
    out, err = await asyncio.wait_for(process.communicate(), 150)
    assert (process.returncode, out) == (3, b"hello\n"), err
    assert err.startswith(b"web-1: "), "the progress of the pull"
    assert (await pulling.admin.send(calls.list_vms())).items == []


async def test_ctrl_c_stops_the_vm(pulling: Any, served: Any, registry: Registry) -> None:
    reference, _ = registry.push(Image([busybox()], WEB), "run/long:1")
    _, agent, _ = await pulling.host()
    process = await nqr(served, "run", "--insecure", "--name", "long", reference)
    await the_vm(pulling, agent)
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 60) == b"hello\n"
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 130, err
    vm = await pulling.until("long", "stopped")
    assert vm.desired_state == "stopped"


async def test_detached_it_prints_the_name(pulling: Any, served: Any, registry: Registry) -> None:
    reference, _ = registry.push(Image([busybox()], WEB), "run/back:1")
    await pulling.host()
    process = await nqr(served, "run", "--insecure", "-d", "--name", "back", reference)
    out, err = await asyncio.wait_for(process.communicate(), 90)
    assert (process.returncode, out) == (0, b"back\n"), err
    assert (await pulling.admin.send(calls.get_vm("back"))).state == "running"


async def test_an_image_that_cannot_be_pulled_makes_no_vm(pulling: Any, served: Any, registry: Registry) -> None:
    process = await nqr(served, "run", "--insecure", f"{registry.address}/no/such:1")
    _, err = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 1 and b"NQR-IMG-043" in err and b"There is no container image" in err
    assert (await pulling.admin.send(calls.list_vms())).items == []
