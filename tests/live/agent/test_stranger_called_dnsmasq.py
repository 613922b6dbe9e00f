"""A program of a user of the host that calls itself dnsmasq holds nothing of the agent."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from nqrust.agent.network.dhcp import Dhcp
from nqrust.host.local import LocalHost

STRANGER = 54_321
NAMES_ITSELF = "echo dnsmasq >/proc/$$/comm; echo there; read never"


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")
def test_a_release_does_not_wait_for_the_fifo_of_a_stranger(tmp_path: Path) -> None:
    hosts, fifo = tmp_path / "hosts.d", tmp_path / "fifo"
    hosts.mkdir()
    (hosts / "a1").write_text("06:4e:00:00:00:01,10.0.0.20,web1\n")
    os.mkfifo(fifo)
    become = ("setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups", "--")
    argv = (*become, "sh", "-c", NAMES_ITSELF, f"-C{fifo}")
    dhcp = Dhcp(LocalHost(), bridge="lo", server="127.0.0.1", hosts_dir=str(hosts), leases=str(tmp_path / "leases"))
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stranger:
        try:
            assert stranger.stdout is not None and stranger.stdout.readline() == b"there\n"
            assert Path(f"/proc/{stranger.pid}/comm").read_text().strip() == "dnsmasq"
            released = threading.Thread(target=dhcp.release, args=("a1", "06:4e:00:00:00:01"), daemon=True)
            released.start()
            released.join(10)
            held = released.is_alive()
        finally:
            stranger.kill()
            if held_open := os.open(fifo, os.O_RDWR | os.O_NONBLOCK):  # an agent that waits goes on
                os.close(held_open)
    assert not held
    assert not (hosts / "a1").exists()
