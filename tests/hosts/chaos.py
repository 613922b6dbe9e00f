"""Chaos on a real host: a client that retries, a killer of services, a witness of every VMM, and the observed state."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nqrust.client import calls
from nqrust.client.errors import Refused, Unreachable
from nqrust.client.manager import ManagerClient
from nqrust.contract.vms import DesiredState, Vm, VmState
from tests.hosts.machine import Machine

CLI_TOKEN = "/etc/nqrust-microvm/cli-token"
AUTHORITY = "/etc/nqrust-microvm/tls/ca.crt"
AGAIN = {429, 500, 502, 503, 504}
"""Answers after which a client asks again."""
SERVICES = ("nqrust-agent.service", "nqrust-manager.service", "nqrust-dhcp.service")
_BEGINS = 3.0  # seconds from a VMM to its guest, on a busy machine
LEFT_IN_FOLDER = re.compile(
    r"vm\.json|disk\.ext4|guest\.json|console\.log|exit-status(-0)?|lock|passwd|run|terminal|mounts(-of-\w+)?|dev|devices|drive0"
)
"""All that the folder of a VM may hold once nobody is at it."""


class Patient:
    """Asks the manager until it answers, as a client with an idempotency key may. Counts what it was answered."""

    def __init__(self, host: Machine, patience: float = 120.0) -> None:
        self.client = ManagerClient(
            f"https://{host.address}:18080", token=host.read(CLI_TOKEN).strip(), timeout=15, authority=host.read(AUTHORITY)
        )
        self._patience = patience
        self.answers: Counter[str] = Counter()
        self.retries: Counter[str] = Counter()
        self.broken: list[str] = []
        """Answers that say that the manager itself went wrong."""

    def ask(self, call: Callable[[], Any]) -> tuple[Any, int]:
        """(answer, attempts); Refused when the answer is no. AssertionError when there is none for too long."""
        deadline = time.monotonic() + self._patience
        attempts = 0
        while True:
            attempts += 1
            try:
                answer = call()
                self.answers["done"] += 1
                return answer, attempts
            except Unreachable as error:
                why = f"no answer: {error}"
                self.retries["no answer"] += 1
            except Refused as error:
                if error.status not in AGAIN:
                    self.answers[f"{error.status} {error.code}"] += 1
                    raise
                why = f"{error.status}: {error}"
                self.retries[str(error.status)] += 1
                if error.status == 500:
                    self.broken.append(str(error))
            assert time.monotonic() < deadline, f"not answered for {self._patience:g} s: {why}"
            time.sleep(0.3)

    def vms(self) -> list[Vm]:
        return list(self.ask(lambda: self.client.send(calls.list_vms()))[0].items)


class Witness(threading.Thread):
    """Looks from outside, several times a second, which VMM processes the host has: (VM, process) -> when first seen."""

    def __init__(self, *hosts: Machine) -> None:
        super().__init__(daemon=True)
        self._hosts = hosts
        self._end = threading.Event()
        self.seen: dict[str, dict[tuple[str, int, int], float]] = {}
        self.doubles: list[str] = []

    def run(self) -> None:
        while not self._end.wait(0.25):
            self.look()

    def stop(self) -> None:
        self._end.set()
        self.join()

    def look(self) -> dict[str, list[tuple[str, int, int]]]:
        """VM -> (host, process number outside, start in clock ticks) of its VMMs now."""
        spaces = {}
        for host in self._hosts:
            leader = host.leader
            if leader is not None:
                with contextlib.suppress(OSError):
                    spaces[os.readlink(f"/proc/{leader.pid}/ns/pid")] = host.name
        found: dict[str, list[tuple[str, int, int]]] = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError, ValueError):
                fields = (entry / "stat").read_text()
                name, _, rest = fields.partition("(")[2].rpartition(")")
                if not name.startswith(("qemu-system", "firecracker")) or rest.split()[0] in "ZX":
                    continue
                host_name = spaces.get(os.readlink(entry / "ns/pid"))
                scope = re.search(rb"(?:^|\0)NQRUST_SCOPE=fc-([^\0]+)", (entry / "environ").read_bytes())
                if host_name and scope:
                    found.setdefault(scope[1].decode(), []).append((host_name, int(entry.name), int(rest.split()[19])))
        for vm_id, processes in found.items():
            known = self.seen.setdefault(vm_id, {})
            for process in processes:
                known.setdefault(process, time.time())
            if len(processes) > 1:
                self.doubles.append(f"{vm_id}: {processes}")
        return found

    def starts(self, vm_id: str, since: float = 0.0) -> int:
        """How many VMMs the VM has had (that were first seen at or after `since`, seconds since the epoch)."""
        return sum(at >= since for at in self.seen.get(vm_id, {}).values())

    def cut_short(self, vm_id: str, kills: Iterable[float]) -> int:
        """How many of its VMMs may have been without a guest yet when the agent was killed. The next agent ends such a VMM and
        starts another for the same request."""
        return sum(any(-1.0 <= kill - at <= _BEGINS for kill in kills) for at in self.seen.get(vm_id, {}).values())


class Killer(threading.Thread):
    """SIGKILL of a random service at random moments; PostgreSQL, which Debian does not restart, is started again."""

    def __init__(self, host: Machine, seed: int, pause: tuple[float, float]) -> None:
        super().__init__(daemon=True)
        self._host, self._chance, self._pause = host, random.Random(seed), pause
        self._end = threading.Event()
        self.database = cluster(host)
        self.kills: Counter[str] = Counter()
        self.of_agent: list[float] = []
        """When the agent was killed, in seconds since the epoch."""

    def run(self) -> None:
        deck: list[list[str]] = []
        while not self._end.wait(self._chance.uniform(*self._pause)):
            if not deck:
                deck = [*([name] for name in SERVICES), [self.database], [*SERVICES], [self.database, *SERVICES]]
                self._chance.shuffle(deck)
            victims = deck.pop()
            for victim in victims:
                self.kill(victim)
            if self.database in victims:
                time.sleep(self._chance.uniform(0.2, 4.0))
                self._host.run(["systemctl", "restart", self.database])

    def kill(self, unit: str) -> None:
        """Its main process: the postmaster, for PostgreSQL."""
        if self._host.run(["systemctl", "kill", "--kill-whom=main", "--signal=KILL", unit], check=False).ok:
            self.kills[unit.partition(".")[0]] += 1
            if unit == "nqrust-agent.service":
                self.of_agent.append(time.time())

    def stop(self) -> None:
        """No more kills; everything that was killed is active again."""
        self._end.set()
        self.join()
        for unit in (self.database, *SERVICES):
            self._host.wait_for(["systemctl", "is-active", "--quiet", unit], timeout=60)


def cluster(host: Machine) -> str:
    """The unit of the host's PostgreSQL."""
    listed = host.run(["systemctl", "list-units", "--plain", "--no-legend", "--type=service", "postgresql@*"]).stdout
    return listed.split()[0]


LOOK = r"""
import json, os, re, socket, subprocess, sys
def ls(path):
    try: return sorted(os.listdir(path))
    except FileNotFoundError: return []
def text(path):
    try: return open(path, errors="replace").read().strip()
    except OSError: return ""
def paused(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(5); s.connect(path); f = s.makefile("rw")
        f.readline()
        for what in ("qmp_capabilities", "query-status"):
            f.write(json.dumps({"execute": what}) + "\r\n"); f.flush()
            while "return" not in (said := json.loads(f.readline())): pass
    return said["return"]["status"] == "paused"
run = lambda *argv: subprocess.run(argv, capture_output=True, text=True).stdout
scopes = [l.split()[0] for l in run("systemctl", "list-units", "fc-*", "--all", "--plain", "--no-legend").splitlines()]
vmms = {}
for p in ls("/proc"):
    if p.isdigit():
        try:
            found = re.search(r"/fc-([0-9a-f-]+)\.scope", open(f"/proc/{p}/cgroup").read())
            if found and text(f"/proc/{p}/comm").startswith(("qemu-system", "firecracker")):
                vmms.setdefault(found[1], []).append(int(p))
        except OSError: pass
folders = {v: ls(f"/srv/fc/vms/{v}") for v in ls("/srv/fc/vms")}
states = {}
for v in vmms:
    try: states[v] = "paused" if paused(f"/srv/fc/vms/{v}/run/qmp.sock") else "running"
    except (OSError, ValueError) as e: states[v] = repr(e)
net = "/sys/class/net"
dhcp = "/var/lib/nqrust-microvm/dhcp"
screens = "/var/lib/nqrust-microvm/agent/screen"
print(json.dumps(dict(
    scopes=scopes, vmms=vmms, folders=folders, states=states,
    taps={n: text(f"{net}/{n}/ifalias") for n in ls(net) if os.path.exists(f"{net}/{n}/tun_flags")},
    reservations={n: text(f"{dhcp}/hosts.d/{n}") for n in ls(f"{dhcp}/hosts.d")},
    leases=[l.split()[1:3] for l in text(f"{dhcp}/leases").splitlines() if len(l.split()) >= 4],
    # a killed screen leaves its socket, which goes at the VM's next start
    consoles=[one for user in ls(screens) for one in ls(f"{screens}/{user}") if os.path.exists(f"/proc/{one.partition('.')[0]}")],
)))
"""


@dataclass
class There:
    """What is really on a host."""

    scopes: list[str]
    vmms: dict[str, list[int]]
    states: dict[str, str]
    folders: dict[str, list[str]]
    taps: dict[str, str]
    reservations: dict[str, str]
    leases: list[list[str]]
    consoles: list[str]


def there(host: Machine) -> There:
    return There(**json.loads(host.run(["python3", "-c", LOOK]).stdout))


def differences(vms: Iterable[Vm], found: There) -> list[str]:
    """Everything in which a host is not what its VMs (as the API shows them) want it to be."""
    wrong: list[str] = []
    listed = {vm.id: vm for vm in vms}
    alive = {vm.id: vm for vm in listed.values() if vm.desired_state in (DesiredState.running, DesiredState.paused)}
    for vm in listed.values():
        if vm.state.value != vm.desired_state.value:
            wrong.append(f"{vm.name} is {vm.state.value}, wanted {vm.desired_state.value}: {vm.error}")
        if vm.state is VmState.running and vm.guest_up_at is None:
            wrong.append(f"the guest of {vm.name} has not reported")
        if vm.id in alive and found.states.get(vm.id) != vm.desired_state.value:
            wrong.append(f"the VMM of {vm.name} is {found.states.get(vm.id)}, wanted {vm.desired_state.value}")
        reserved = found.reservations.get(vm.id)
        if (vm.id in alive or reserved) and reserved != f"{vm.mac},{vm.ip},{vm.name}":
            wrong.append(f"the reservation of {vm.name} is {reserved}, wanted {vm.mac},{vm.ip}")
    ours = {vm.mac: vm.ip for vm in listed.values()}
    wrong += _compared("scopes", found.scopes, (f"fc-{vm_id}.scope" for vm_id in alive))
    wrong += _compared("TAPs", found.taps.items(), ((vm.tap, f"nqrust-vm:{vm.id}") for vm in alive.values()))
    wrong += _compared("folders", found.folders, listed)
    wrong += [f"reservation of {one}, which nobody knows" for one in found.reservations if one not in listed]
    wrong += [f"lease {mac} {ip}, which nobody has" for mac, ip in found.leases if ours.get(mac) != ip]
    wrong += [f"console {one} of a VM that does not run" for one in found.consoles if one.partition(".fc-")[2] not in alive]
    wrong += [f"{len(pids)} VMMs of {vm_id}" for vm_id, pids in found.vmms.items() if len(pids) != 1]
    for vm_id, files in found.folders.items():
        wrong += [f"{name} is left in {vm_id}" for name in files if not LEFT_IN_FOLDER.fullmatch(name)]
    return wrong


def _compared(what: str, found: Iterable[Any], wanted: Iterable[Any]) -> list[str]:
    have, want = set(found), set(wanted)
    return [f"{what}: {one} is too much" for one in have - want] + [f"{what}: {one} is missing" for one in want - have]


def open_operations(host: Machine) -> int:
    query = "select count(*) from operations where state in ('pending', 'running')"
    return int(host.run(["runuser", "-u", "postgres", "--", "psql", "-Atd", "nexus", "-c", query]).stdout)
