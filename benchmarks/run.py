"""Measures the installer and prints each figure as a ratio to what it cannot avoid. Nothing here asserts: see the budgets
in the table that is printed.

    python benchmarks/run.py [help] [install]      (default: both; `install` needs root and makes test hosts)

`help`      `nqr --help`, over an interpreter that does nothing.
`install`   on a pristine Debian 12 host: a fresh install, over the raw commands for the same packages, wheels and
            compiler runs on another pristine host; a converged re-run; the peak memory of both.
"""

from __future__ import annotations

import json
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

INSTALL = "/root/nqrust/scripts/install/install.sh --mode production --non-interactive --output json"
CACHE = "/var/cache/nqrust-microvm"

# Runs its arguments, then prints seconds and the largest resident set of any child in MiB on standard error.
METER = """
import resource, subprocess, sys, time
began = time.monotonic()
code = subprocess.call(sys.argv[1:])
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(f"METER {time.monotonic() - began:.3f} {peak:.1f}", file=sys.stderr)
sys.exit(code)
"""


def line(what: str, figure: str, budget: str) -> None:
    print(f"{what:<44} {figure:<44} budget {budget}", flush=True)


def median_seconds(argv: list[str], runs: int = 15) -> float:
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def bench_help() -> None:
    python = sys.executable
    nothing = median_seconds([python, "-I", "-c", "pass"])
    shown = median_seconds([python, "-I", "-c", "import sys; sys.argv=['nqr','--help']; sys.path.insert(0, sys.path.pop());"
                            "from nqrust.installer.cli.__main__ import main; main()"])
    line("nqr --help", f"{shown:.3f} s, {shown / nothing:.1f} x `python -c pass` ({nothing:.3f} s)", "0.25 s")


def bench_install() -> None:
    from tests.hosts.machine.machine import Machine

    with Machine(primed=False) as host:
        host.clone_repository("/root/nqrust")
        host.write("/root/meter.py", METER)
        packages = "dpkg-query -W -f '${Package}\\n' | sort"
        before = set(host.run(packages).stdout.split())
        fresh, peak, summary = metered(host, INSTALL)
        line("fresh install, peak memory", f"{peak:.0f} MiB (any one process)", "150 MB")
        for phase in summary.get("phases", []):
            print(f"    {phase['name']:<12} {phase['seconds']:.1f} s")
        again, peak, summary = metered(host, INSTALL)
        line("converged re-run", f"{again:.2f} s, {summary.get('changed')} changed, {peak:.0f} MiB", "1.5 s")
        added = sorted(set(host.run(packages).stdout.split()) - before)
        environments = "tar -C / -cf - " + f"{CACHE[1:]}/wheelhouse root/nqrust/requirements root/nqrust/guest-agent"
        carried = subprocess.run(host._argv(environments, "root"), stdout=subprocess.PIPE, check=True).stdout
    with Machine(primed=False) as host:
        host.run("tar -C / -xf -", input=carried, timeout=300)
        raw = 0.0
        for command in raw_commands(added):
            began = time.monotonic()
            host.run(command, timeout=1800)
            seconds = time.monotonic() - began
            raw += seconds
            print(f"    raw {seconds:6.1f} s  {command[:90]}", flush=True)
    line("fresh install over its raw commands", f"{fresh:.1f} s / {raw:.1f} s = {fresh / raw:.2f}", "1.15")


def raw_commands(packages: list[str]) -> list[str]:
    """The same packages, wheels and compiler runs, without an installer. The database cluster and the services are
    created and started by their packages."""
    locks = "/root/nqrust/requirements"
    pip = "-q install --require-hashes --no-index --find-links /var/cache/nqrust-microvm/wheelhouse"
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
        "cd /root/nqrust/guest-agent && rustc --edition 2021 -C opt-level=z -C lto -C panic=abort"
        " -C target-feature=+crt-static -o /root/guest-agent src/main.rs",
    ]


def metered(host: object, command: str) -> tuple[float, float, dict[str, object]]:
    """Seconds, MiB, and the summary that the run printed last."""
    done = host.run(f"python3 /root/meter.py {command}", timeout=1800, check=False)  # type: ignore[attr-defined]
    if done.code:
        sys.exit(f"the install failed with {done.code}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    seconds, peak = next(text for text in done.stderr.splitlines() if text.startswith("METER")).split()[1:]
    return float(seconds), float(peak), json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["help", "install"]
    if "help" in wanted:
        bench_help()
    if "install" in wanted:
        bench_install()
