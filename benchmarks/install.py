"""The installer: `nqr --help`, a fresh install over its raw commands, a converged run, and the memory of `nqr` itself."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Budget, line, note, under

if TYPE_CHECKING:
    from tests.hosts.machine import Machine

CLONE = "/root/nqrust"
INSTALL = f"{CLONE}/scripts/install/install.sh --mode production --non-interactive --output json"
HEALTH = ("http://127.0.0.1:18080/health", "http://127.0.0.1:19090/agent/v1/health", "http://127.0.0.1:3000/")
CACHE = "/var/cache/nqrust-microvm"

# Runs its arguments, then prints on standard error: seconds, the largest resident set of the process itself, which
# install.sh becomes `nqr` in, and of any program below it, both in MiB, and the processor seconds of all of them. VmHWM starts
# anew at execve(2).
METER = """
import resource, subprocess, sys, threading, time
began = time.monotonic()
child = subprocess.Popen(sys.argv[1:])
own = 0
while child.poll() is None:
    try:
        with open(f"/proc/{child.pid}/status") as file:
            own = next((int(line.split()[1]) for line in file if line.startswith("VmHWM:")), own)
    except OSError:
        pass
    time.sleep(0.01)
took = time.monotonic() - began
used = resource.getrusage(resource.RUSAGE_CHILDREN)
busy = used.ru_utime + used.ru_stime
print(f"METER {took:.3f} {own / 1024:.1f} {used.ru_maxrss / 1024:.1f} {busy:.3f}", file=sys.stderr)
sys.exit(child.returncode)
"""


def bench_install() -> None:
    from tests.hosts.machine import Machine

    packages = "dpkg-query -W -f '${Package}\\n' | sort"
    with Machine(primed=False) as host:
        host.clone_repository(CLONE)
        before = set(host.run(packages).stdout.split())
        run = metered(host, INSTALL)
        fresh = run.seconds
        note(f"fresh install {fresh:.1f} s")
        show_memory("fresh install", run)
        for phase in run.summary.get("phases", []):
            note(f"{phase['name']:<12} {phase['seconds']:.1f} s")
        proofs = max(proof["seconds"] for proof in run.summary["proofs"])
        note(f"proofs       {proofs:.1f} s, a VM's boot under emulation among them")
        bench_converged(host)
        starts = service_starts(host)
        added = sorted(set(host.run(packages).stdout.split()) - before)
        environments = "tar -C / -cf - " + f"{CACHE[1:]}/wheelhouse {CLONE[1:]}/requirements {CLONE[1:]}/guest-agent"
        carried = subprocess.run(host._argv(environments, "root"), stdout=subprocess.PIPE, check=True).stdout
    with Machine(primed=False) as host:
        host.run("tar -C / -xf -", input=carried, timeout=300)
        raw = starts
        note(f"raw {starts:6.1f} s  start of the platform's services, until they answer")
        for command in raw_commands(added):
            began = time.monotonic()
            host.run(command, timeout=1800)
            seconds = time.monotonic() - began
            raw += seconds
            note(f"raw {seconds:6.1f} s  {command[:90]}")
    for what, took in (("", fresh), (" without its proofs", fresh - proofs)):
        ratio = f"{took / raw:.2f} x its raw commands ({raw:.1f} s)"
        line(f"fresh install{what}", f"{took:.1f} s", ratio, Budget("1.15 x", took <= 1.15 * raw))


def service_starts(host: Machine) -> float:
    """Seconds from a restart of all services of the platform until all of them answer."""
    began = time.monotonic()
    host.run(["systemctl", "restart", *(f"nqrust-{name}" for name in ("network", "dhcp", "manager", "agent", "ui"))])
    for url in HEALTH:
        host.wait_for(["python3", "-I", "-c", f"import urllib.request; urllib.request.urlopen({url!r}, timeout=2)"])
    return time.monotonic() - began


def bench_converged(host: Machine) -> float:
    """Median seconds of a run that finds everything as it should be."""
    runs = [metered(host, INSTALL) for _ in range(6)][1:]
    seconds = sorted(run.seconds for run in runs)[len(runs) // 2]
    changed = max(run.summary["changed"] for run in runs)
    steps = runs[0].summary["satisfied"]
    line(
        "converged re-run",
        f"{seconds:.2f} s ({changed} changed)",
        f"{seconds / steps * 1000:.1f} ms a step ({steps})",
        under(seconds, 1.5, "s"),
    )
    show_memory("converged re-run", runs[0])
    return seconds


class Metered:
    """`seconds`; `own` and `below`: peak MiB of nqr and of the largest program it ran; `busy`: seconds of processors that they
    used, services not among them; `events`: what it printed, the summary last."""

    def __init__(self, seconds: float, own: float, below: float, busy: float, events: list[dict[str, Any]]) -> None:
        self.seconds, self.own, self.below, self.busy, self.events = seconds, own, below, busy, events

    @property
    def summary(self) -> dict[str, Any]:
        return self.events[-1]

    def slow_steps(self, seconds: float) -> list[tuple[str, float]]:
        """Id and seconds of each step that took so long."""
        ended = [event for event in self.events if event["type"] == "step_finished" and event["seconds"] >= seconds]
        return [(event["id"], event["seconds"]) for event in ended]


def show_memory(what: str, run: Metered) -> None:
    line(
        f"{what}, peak memory of nqr",
        f"{run.own:.0f} MiB",
        f"the largest program it ran: {run.below:.0f} MiB",
        under(run.own, 150, "MiB"),
    )


def metered(host: Machine, command: str) -> Metered:
    """Exits the benchmark when the command fails."""
    host.write("/root/meter.py", METER)
    done = host.run(f"python3 -I /root/meter.py {command}", timeout=1800, check=False)
    if done.code:
        sys.exit(f"the install failed with {done.code}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    figures = next(text for text in done.stderr.splitlines() if text.startswith("METER")).split()[1:]
    return Metered(*map(float, figures), [json.loads(text) for text in done.stdout.splitlines()])


def raw_commands(packages: list[str]) -> list[str]:
    """The same packages, wheels, compiler runs and guest kernel, without an installer. The database cluster is created
    and started by its package."""
    locks = f"{CLONE}/requirements"
    pip = f"-q install --require-hashes --no-index --find-links {CACHE}/wheelhouse"
    return [
        "apt-get update",
        "DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-venv",
        "python3 -m venv /root/boot",
        f"/root/boot/bin/pip download -q --require-hashes --only-binary :all: -d /root/wheels -r {locks}/installer.txt -r {locks}/build.txt",
        f"/root/boot/bin/pip -q install --no-index --find-links /root/wheels --require-hashes -r {locks}/installer.txt",
        f"DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends {shlex.join(packages)}",
        f"/root/boot/bin/pip download -q --require-hashes --only-binary :all: -d /root/wheels"
        f" -r {locks}/manager.txt -r {locks}/agent.txt -r {locks}/ui.txt",
        f"python3 -m venv --without-pip /root/platform && /root/boot/bin/python -m pip --python /root/platform/bin/python {pip}"
        f" -r {locks}/manager.txt -r {locks}/agent.txt -r {locks}/ui.txt",
        f"python3 -m venv --without-pip /root/nqr && /root/boot/bin/python -m pip --python /root/nqr/bin/python {pip} -r {locks}/installer.txt",
        "cd /root && apt-get -q -o APT::Sandbox::User=root download"
        " $(apt-cache depends linux-image-cloud-amd64 | sed -n 's/ *Depends: //p') && dpkg-deb -x linux-image-*.deb kernel",
        "CARGO_TARGET_DIR=/root/target CARGO_HOME=/root/cargo RUSTFLAGS='-C target-feature=+crt-static' cargo build -q --release --locked"
        f" --offline --target x86_64-unknown-linux-gnu --manifest-path {CLONE}/guest-agent/Cargo.toml",
    ]
