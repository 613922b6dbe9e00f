"""`install.sh --rehearse` on a pristine host: it installs in a clone, reports, and leaves the host unchanged."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator

import pytest

from tests.hosts import product, warm
from tests.hosts.machine import Fingerprint, Machine, Running

pytestmark = pytest.mark.timeout(2400)

INSTALL = f"{product.CLONE}/scripts/install/install.sh"
CACHE = product.CACHE
PLAN_LEAVES = re.compile(rf"{CACHE}(/|$)|/var/lib/(apt|dpkg|systemd|dbus)(/|$)|/var/(log|cache)/|/tmp/|/var/tmp/|/run/")
"""What `nqr plan` is documented to leave (the bootstrap's cache), and what the package tools and the running system keep
for themselves; whether a package or unit stayed is told by the other categories."""


@pytest.fixture(scope="module")
def host() -> Iterator[Machine]:
    with Machine() as machine:
        product.clone(machine)
        warm.fill(machine)
        # The bootstrap's cache is a plan's own, whatever it plans.
        product.bootstrap(machine, "--dry-run", "--mode", "minimal")
        yield machine


def outside_view(host: Machine) -> dict[str, str]:
    """What a rehearsal could leave beside files: mounts, links, rules, namespaces' processes, control groups."""
    return {
        "mounts": host.run("sort /proc/mounts").stdout,
        "links": host.run("ls /sys/class/net").stdout,
        "forwarding": host.run("cat /proc/sys/net/ipv4/ip_forward").stdout,
        "units": host.run("systemctl list-units --all --plain --no-legend '*rehears*'").stdout,
        "processes": host.run("grep -laz [r]ehearsal /proc/[0-9]*/cmdline 2>/dev/null || true").stdout,
        "carriers": host.run("grep -laz [s]lirp4netns /proc/[0-9]*/cmdline 2>/dev/null || true").stdout,
        "scratch": host.run(f"ls -d {CACHE}/rehearsal-* 2>/dev/null || true").stdout,
    }  # fmt: skip


def differing(before: Fingerprint, after: Fingerprint) -> list[str]:
    return before.diff(after, ignore=lambda category, thing: category == "files" and bool(PLAN_LEAVES.match(thing)))


def started(host: Machine, *arguments: str) -> Running:
    return host.start([INSTALL, "--rehearse", "--mode", "minimal", *arguments])


def until(running: Running, words: str, limit: float = 300.0) -> None:
    deadline = time.monotonic() + limit
    while words not in running.text():
        assert running.poll() is None and time.monotonic() < deadline, running.text()[-3000:]
        time.sleep(0.1)


@pytest.mark.matrix
def test_rehearsal_installs_in_a_clone_and_leaves_the_host_unchanged(host: Machine) -> None:
    before, view = host.fingerprint(), outside_view(host)
    mark = host.mark()
    done = host.run(
        [INSTALL, "--rehearse", "--mode", "minimal", "--output", "json", "--report", "/root/report.json"], timeout=1800,
    )  # fmt: skip
    written = [change.path for change in host.changes(mark)]
    host.run("rm /root/report.json")
    told = product.lines(done)
    summary = told[-1]
    assert (summary["outcome"], summary["exit_code"]) == ("ok", 0), done.describe()
    assert {proof["verdict"] for proof in summary["proofs"]} == {"passed"}
    assert any(one["type"] == "step_finished" and one["outcome"] == "changed" for one in told), "its events are relayed"

    found = summary["rehearsal"]
    assert found["booted"] and 0 < found["install_seconds"] <= found["seconds"]
    paths = {one["path"]: one for one in found["paths"]}
    assert paths["/opt/nqrust-microvm/installer"]["sign"] == "+" and paths["/etc/passwd"]["sign"] == "~"
    measured = {(one["section"], one["sign"], one["key"]) for one in found["differences"]}
    for expected in (
        ("users", "+", "nqrust"), ("units", "+", "nqrust-manager.service"), ("links", "+", "fcbr0"),
        ("ports", "+", "tcp 0.0.0.0 18080"), ("packages", "+", "postgresql:all"),
    ):  # fmt: skip
        assert expected in measured
    assert found["unmeasured"] and summary["changed"] > 0 and summary["phases"]

    assert differing(before, host.fingerprint()) == []
    assert outside_view(host) == view
    stray = [path for path in written if not PLAN_LEAVES.match(path) and not path.startswith(("/root", "/var/lib"))]
    assert stray == []


def test_signal_ends_the_rehearsal_and_leaves_nothing(host: Machine) -> None:
    view = outside_view(host)
    running = started(host)
    until(running, "deps: ")
    running.signal(signal.SIGINT)
    assert running.wait(60) == 130, running.text()
    assert "its clone is gone" in running.text()
    assert outside_view(host) == view


def test_after_a_kill_one_folder_is_left_and_a_rollback_removes_it(host: Machine) -> None:
    view = outside_view(host)
    running = started(host)
    until(running, "deps: ")
    host.run(
        "for p in $(grep -laz -e [-]-rehearse /proc/[0-9]*/cmdline); do kill -KILL $(echo $p | cut -d/ -f3); done", check=False
    )
    running.wait(60)
    deadline = time.monotonic() + 60
    while (now := outside_view(host)) != {**view, "scratch": now["scratch"]} and time.monotonic() < deadline:
        time.sleep(0.2)
    assert {**now, "scratch": ""} == view and now["scratch"].strip().startswith(f"{CACHE}/rehearsal-")
    host.run([INSTALL, "--output", "json"], env={"NQR_VERB": "rollback"})
    assert outside_view(host) == view


def test_rehearsal_refuses_to_join_a_real_manager(host: Machine) -> None:
    token = "/root/token"
    host.run(f"echo {'a' * 40} > {token}")
    done = host.run(
        [INSTALL, "--rehearse", "--mode", "agent", "--manager-url", "http://192.0.2.1:18080", "--join-token-file", token,
         "--output", "json"], check=False,
    )  # fmt: skip
    host.run(f"rm {token}")
    assert done.code == 3 and json.loads(done.stdout.splitlines()[-1])["error"]["code"] == "NQR-RHS-002"
