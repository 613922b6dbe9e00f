"""The main job: what a user does with the product from the first command to the last, in steps that any base machine can
run. Each step asserts what the user would notice, and that the machine's other software still works."""

from __future__ import annotations

import difflib
import re
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import pytest

from tests.hosts import product
from tests.hosts.bases import LivedIn
from tests.hosts.machine import Fingerprint, Machine, Result, managed_python
from tests.hosts.product import CONFIG, document, eventually, fetch, nqr

INSTALL = ("--mode", "production", "--non-interactive")
UI = "http://127.0.0.1:3000/"
GONE = ("/opt/nqrust-microvm", CONFIG, "/srv/fc", "/srv/images", product.CACHE, "/var/log/nqrust-install", "/var/log/nqrust-microvm",
        "/run/nqrust-microvm", "/run/nqrust-install.lock")  # fmt: skip


@dataclass
class Job:
    """A base machine on its way through the job. `before` and `neighbour`: as it was without the product."""

    lived: LivedIn
    before: Fingerprint
    neighbour: str
    arguments: tuple[str, ...] = INSTALL
    result: Result | None = None
    vm: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    differences: list[str] | None = None

    @property
    def host(self) -> Machine:
        return self.lived.host

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds[step] = self.seconds.get(step, 0) + time.monotonic() - started

    def line(self) -> str:
        """One line for a person: the machine, what took how long, what differs at the end."""
        took = ", ".join(f"{name} {value:.0f} s" for name, value in {"ready": self.lived.seconds, **self.seconds}.items())
        differs = "not compared" if self.differences is None else f"{len(self.differences)} fingerprint differences"
        init = "systemd" if self.host.systemd else "plain"
        return f"{self.lived.kind.name} ({init}): {differs}; {took}"


def begin(
    lived: LivedIn,
    arguments: tuple[str, ...] = INSTALL,
    *,
    first: Callable[[Machine], None] | None = None,
    env: Mapping[str, str] = MappingProxyType({}),
) -> Job:
    """Clone, fingerprint, what is to be done `first`, install with `env`. Raises MachineError when the install fails."""
    product.clone(lived.host)
    python = newer_python(lived.host)
    job = Job(lived, lived.host.fingerprint(), lived.neighbour(), arguments)
    if lived.kind.busy:
        lived.host.start(lived.kind.busy)
    if first is not None:
        first(lived.host)
    with job.timed("install"):
        job.result = product.bootstrap(lived.host, *arguments, env={**python, **env})
    return job


def newer_python(host: Machine) -> dict[str, str]:
    """Put a Python there, if the host's is too old. Returns the variables that name it to the first install."""
    if host.suite != "bullseye":
        return {}
    python = managed_python.archive()
    host.write("/root/python.tar.gz", python.path.read_bytes())
    return {"NQR_PYTHON_ARCHIVE": "/root/python.tar.gz", "NQR_PYTHON_SHA256": python.sha256}


def neighbour_is_untouched(job: Job) -> None:
    lines = difflib.ndiff(job.neighbour.splitlines(), job.lived.neighbour().splitlines())
    assert "\n".join(line for line in lines if line[0] in "+-") == ""


def a_vm_runs_and_reaches_the_outside(job: Job) -> None:
    with job.timed("VM"):
        if not job.vm:
            job.vm = product.create_vm(job.host, "web1", address=job.lived.kind.addresses)
            product.guest_reaches(job.host, job.vm)
        reaches_outside(job.host, job.vm)
    neighbour_is_untouched(job)


def reaches_outside(host: Machine, vm: dict[str, Any], *, server: str = "", seen_as: str = "") -> None:
    """The guest talks to a server beyond the host, which sees it with the host's address. `server`: its address, if it is not the
    gateway. `seen_as`: that address, on a host with several."""
    there = server or host.network.gateway
    seen: list[tuple[str, str]] = []

    class Handler(socketserver.StreamRequestHandler):
        timeout = 10

        def handle(self) -> None:
            seen.append((self.rfile.readline().decode().strip(), self.client_address[0]))

    with socketserver.ThreadingTCPServer((there, 0), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            product.typed(host, vm["name"], "root")
            product.typed(host, vm["name"], f"echo I am {vm['name']} | nc -w 10 {there} {serving.server_address[1]}")
            eventually("the guest reaches the outside", lambda: seen, 30)
        finally:
            serving.shutdown()
            thread.join()
    assert seen == [(f"I am {vm['name']}", seen_as or host.address)], "through NAT, so with the host's own address"


def the_neighbour_is_reloaded(job: Job) -> None:
    """Its administrator reloads or restarts it: it has what it had, and VMs still reach the outside."""
    if not job.lived.kind.meanwhile:
        pytest.skip("nothing on this machine has a say in the network")
    with job.timed("neighbour"):
        job.host.run(f"set -e\n{job.lived.kind.meanwhile}", timeout=180)
    the_rules_come_back(job)
    with job.timed("neighbour"):
        job.lived.await_neighbour()
    now = job.lived.neighbour()
    assert _without_processes(now) == _without_processes(job.neighbour)
    job.neighbour = now
    reaches_outside(job.host, job.vm)


RULES = "/opt/nqrust-microvm/libexec/nqrust-network"
SOON = 10.0
"""Seconds after which rules that another program took out are back, on a busy machine too. The regular look comes every 15."""


def the_rules_come_back(job: Job) -> None:
    """After a reload of the neighbour."""
    with job.timed("rules back"):
        eventually("the rules are back", lambda: job.host.run([RULES, "check"], check=False).code == 0, SOON)


def a_reboot_brings_both_back(job: Job) -> None:
    """The neighbour has what it had, and a VM reaches the outside, and the host is under the same rules."""
    host = job.host
    with job.timed("reboot"):
        host.reboot()
        job.lived.await_neighbour()
        start_services(host)
        eventually("the rules are back", lambda: host.run([RULES, "check"], check=False).code == 0, 60)
        eventually("the manager answers", lambda: fetch(host, "http://127.0.0.1:18080/health")[0] == 200, 120)
        eventually("the host is back", lambda: nqr(host, "vm", "start", job.vm["name"], "--wait", check=False).code == 0, 180)
        job.vm = document(host, "vm", "show", job.vm["name"])
        product.guest_reaches(host, job.vm)
    now = job.lived.neighbour()
    assert _without_processes(now) == _without_processes(job.neighbour)
    job.neighbour = now
    reaches_outside(host, job.vm)


def start_services(host: Machine) -> None:
    """After a boot: nothing but this command starts them on a machine without systemd."""
    if not host.systemd:
        nqr(host, "services", "start", timeout=300)


def _without_processes(text: str) -> list[str]:
    return re.sub(r"(?m)^(MainPID=\d+|\d+ \d+)$", "process", text).splitlines()


def again_changes_nothing(job: Job) -> None:
    with job.timed("again"):
        mark = job.host.mark()
        again = product.bootstrap(job.host, *job.arguments, timeout=300)
    assert "(0 changed" in again.stdout, again.describe()
    assert product.rewritten(job.host, mark) == []
    assert document(job.host, "vm", "show", job.vm["name"])["boot_id"] == job.vm["boot_id"]


def a_component_goes_and_comes(job: Job) -> None:
    """The web UI is switched off and on by the environment variable; the VM runs on meanwhile."""
    host = job.host
    with job.timed("UI off and on"):
        nqr(host, "install", "--non-interactive", env={"WITH_UI": "false"}, timeout=600)
        assert fetch(host, UI)[0] == 0, "nothing listens there any more"
        assert not host.exists(f"{CONFIG}/ui.env") and not host.exists("/etc/systemd/system/nqrust-ui.service")
        assert "(0 changed" in nqr(host, "install", "--non-interactive").stdout, "what is off stays off"
        nqr(host, "install", "--non-interactive", env={"WITH_UI": "true"}, timeout=600)
        assert fetch(host, UI)[0] == 200 and host.exists(f"{CONFIG}/ui.env")
        assert "(0 changed" in nqr(host, "install", "--non-interactive").stdout
    assert document(host, "vm", "show", job.vm["name"])["boot_id"] == job.vm["boot_id"]
    neighbour_is_untouched(job)


def uninstall_keeps_data(job: Job) -> None:
    host = job.host
    with job.timed("uninstall"):
        gone = nqr(host, "uninstall", "--non-interactive", timeout=900)
    assert "--purge-data" in gone.stdout and "--drop-database" in gone.stdout, gone.describe()
    assert host.exists("/srv/images") and not host.exists(CONFIG)
    left = host.run("find /opt/nqrust-microvm -type f 2>/dev/null || :").stdout.split()
    assert [path for path in left if not re.fullmatch(r"/opt/nqrust-microvm/backups/nexus-before-.*\.dump", path)] == []
    if job.vm:
        assert product.vm_processes(host, job.vm["id"]) == {}
    neighbour_is_untouched(job)


def differences(job: Job) -> list[str]:
    """What of the host is not as it was, but for what its other software changes."""
    return job.before.diff(job.host.fingerprint(), job.lived.moves)


def purge_later_leaves_nothing(job: Job) -> None:
    """The data goes in a second run, after the software has gone, and the host is the one that it was."""
    host = job.host
    with job.timed("purge"):
        purged = host.run(
            [f"{product.CLONE}/scripts/install/uninstall.sh", "--purge-data", "--drop-database", "--non-interactive"],
            check=False, timeout=900,
        )  # fmt: skip
    job.differences = differences(job)
    assert purged.code == 0, purged.describe()
    assert product.logs_that_are_gone(host, purged) == []
    assert "\n".join(job.differences) == "", purged.describe()
    assert [path for path in GONE if host.exists(path)] == []
    neighbour_is_untouched(job)
