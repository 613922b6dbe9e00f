"""Runs on the installed host, with its own Python: boots VMs by the platform and by hand, in turns.

    boot_on_host.py ROUNDS      prints one JSON object

A VM by hand is the command line that the agent gave QEMU, started again with the same kernel, a copy of the same fresh
disk, the same MAC and a TAP on the same bridge. It boots at once: the agent's QEMU waits for a word of the agent (-S). Both end when the guest agent answers `GET /health`; the platform's is
also timed until its manager has the guest's report.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

TOKEN = Path("/etc/nqrust-microvm/cli-token").read_text().strip()
RAW = Path("/srv/fc/benchmark")
PAUSE = 0.02
SHAPE = {"image": "tiny", "vcpus": 1, "memory_mib": 128}


def api(method: str, path: str, body: Any = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", 18080, timeout=30)
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    connection.request(method, f"/v1/vms{path}", json.dumps(body) if body is not None else None, headers)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    if answer.status == 404:
        return None
    if answer.status >= 300:
        sys.exit(f"{method} /v1/vms{path}: {answer.status} {text.decode()}")
    return json.loads(text)


def until(vm: str, condition: Any, pause: float = 0.1) -> Any:
    deadline = time.time() + 180
    while not condition(found := api("GET", f"/{vm}")):
        if time.time() > deadline:
            sys.exit(f"VM {vm} does not get there: {found}")
        time.sleep(pause)
    return found


def answered(ip: str) -> float:
    """When the guest agent first answered."""
    deadline = time.time() + 180
    while time.time() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection(ip, 9000, timeout=0.5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return time.time()
        time.sleep(PAUSE)
    console = RAW / "console"
    sys.exit(f"no guest agent answers at {ip}: {console.read_text(errors='replace')[-500:] if console.exists() else ''}")


def seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()


def by_platform(number: int) -> dict[str, float]:
    began = time.time()
    made = api("POST", "", {"name": f"bench{number}", **SHAPE})
    accepted = time.time()
    ip = until(made["id"], lambda vm: vm["ip"], PAUSE)["ip"]
    answer = answered(ip)
    vm = until(made["id"], lambda vm: vm["guest_up_at"])
    api("DELETE", f"/{made['id']}")
    until(made["id"], lambda vm: vm is None)
    return {"accepted": accepted - began, "answer": answer - began, "reported": seconds(vm["guest_up_at"]) - began}


def learn() -> tuple[list[str], dict[str, Any]]:
    """The agent's command line for a VM whose untouched disk was put aside, and the VM, which does not run."""
    vm = api("POST", "", {"name": "bench", "start": False, **SHAPE})
    until(vm["id"], lambda vm: vm["state"] == "stopped")
    (RAW / "run").mkdir(parents=True)  # of the monitor's socket
    argv: list[str] = []
    folder = next(Path("/srv/fc").glob(f"**/{vm['id']}"))
    disk = max(folder.iterdir(), key=lambda path: path.stat().st_size)
    subprocess.run(["cp", "--sparse=always", disk, RAW / "fresh"], check=True)
    api("POST", f"/{vm['id']}/start")
    vm = until(vm["id"], lambda vm: vm["guest_up_at"])
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "comm").read_text().startswith("qemu") and vm["id"] in (process / "cmdline").read_text():
                argv = (process / "cmdline").read_text().split("\0")[:-1]
    if not argv:
        sys.exit("no QEMU process carries the VM's id")
    api("POST", f"/{vm['id']}/stop", {"force": True})
    until(vm["id"], lambda vm: vm["state"] == "stopped")
    return [word.replace(str(folder), str(RAW)) for word in argv if word != "-S"], vm | {"disk": disk.name}


def by_hand(argv: list[str], vm: dict[str, Any]) -> float:
    subprocess.run(["cp", "--sparse=always", RAW / "fresh", RAW / vm["disk"]], check=True)
    subprocess.run(["ip", "tuntap", "add", "dev", vm["tap"], "mode", "tap"], check=True)
    subprocess.run(["ip", "link", "set", vm["tap"], "master", "fcbr0", "up"], check=True)
    try:
        with (RAW / "console").open("wb") as console:
            began = time.time()
            qemu = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=console, stderr=console, cwd=RAW)
            try:
                return answered(vm["ip"]) - began
            finally:
                qemu.kill()
                qemu.wait()
    finally:
        subprocess.run(["ip", "link", "delete", vm["tap"]], check=True)


def main(rounds: int) -> None:
    shutil.rmtree(RAW, ignore_errors=True)
    argv, vm = learn()
    platform, hand = [], []
    for number in range(rounds):
        platform.append(by_platform(number))
        hand.append(by_hand(argv, vm))
    api("DELETE", f"/{vm['id']}")
    until(vm["id"], lambda vm: vm is None)
    shutil.rmtree(RAW)
    print(json.dumps({"platform": platform, "hand": hand}))


main(int(sys.argv[1]))
