"""nqr services: what people read, and the process that waits for the end of its container."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from nqrust.cli import services
from nqrust.cli.__main__ import run
from nqrust.installer.operations.serving import Services
from nqrust.installer.request import ServiceStatus

WAITING = """
import os, sys, time
from nqrust.installer.operations import serving
os.geteuid = lambda: 0
idle = serving.Services("supervisord", ())
def start(tell):
    tell("starting")
    if os.fork() == 0:  # its orphan ends later than the start
        time.sleep(0.3)
        os._exit(0)
    time.sleep(float(sys.argv[1]))
    return idle
serving.start = start
serving.stop = lambda seconds, tell: tell(f"guests have {seconds} s") or idle
from nqrust.cli.__main__ import run
sys.exit(run(["services", "start", "--wait"]))
"""


def waiting(seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-u", "-c", WAITING, str(seconds)], stdout=subprocess.PIPE, text=True)


def test_text_names_each_service_and_the_vms() -> None:
    found = Services(
        "systemd", (ServiceStatus("a", True, True, detail="active"), ServiceStatus("bb", True, False, detail="x")), 2
    )
    assert services.lines(found) == [
        "systemd runs the services of this host.", "  a   active  active", "  bb  NOT ACTIVE  x", "  VMs that run: 2",
    ]  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_waiting_process_stops_the_services_at_a_signal(number: int) -> None:
    process = waiting(0)
    assert process.stdout is not None
    while process.stdout.readline() != "Waiting for SIGTERM.\n":
        assert process.poll() is None
    time.sleep(1.2)  # longer than its orphan lives and than it looks around
    assert psutil.Process(process.pid).children() == [], "no zombie"
    process.send_signal(number)
    assert process.stdout.read() == "guests have 40 s\nAll services are stopped.\n" and process.wait(30) == 0


def test_a_signal_during_the_start_stops_what_it_started() -> None:
    process = waiting(1)
    assert process.stdout is not None and process.stdout.readline() == "starting\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60)[0].endswith("guests have 40 s\nAll services are stopped.\n")
    assert process.returncode == 0


@pytest.mark.parametrize("verb", ["start", "stop", "status"])
def test_only_root_may(verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run(["services", verb]) == 2 and "NQR-USE-001" in capsys.readouterr().err
