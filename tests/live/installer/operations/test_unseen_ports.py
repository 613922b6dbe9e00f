"""Root without CAP_SYS_PTRACE, as in many containers, sees no socket of another user's process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

LISTENS = "import socket, sys; held = socket.create_server(('127.0.0.1', 0)); print(held.getsockname()[1], flush=True); sys.stdin.read()"
LOOKS = """
import json, sys
from types import SimpleNamespace
from nqrust.host.facts import ports, processes
from nqrust.host.local import LocalHost
from nqrust.installer.operations import held_ports
from nqrust.installer.settings.model import Settings
from nqrust.installer.supervisor.spec import ServiceState

number, mains = int(sys.argv[1]), json.loads(sys.argv[2])
host = LocalHost()
found = [one for one in ports.probe(host, processes.probe(host)) if (one.protocol, one.port) == ("tcp", number)]
services = SimpleNamespace(state=lambda host, name: ServiceState(active=name in mains, pid=mains.get(name, 0)))
settings = Settings.model_validate({"manager": {"bind": f"127.0.0.1:{number}"}})
told = list(held_ports.notes(host, settings, SimpleNamespace(ports=found), services, ["nqrust-manager", "nqrust-agent"]))
print(json.dumps([[one.pid for one in found], told]))
"""
BARE = ("setpriv", "--bounding-set", "-sys_ptrace", "--inh-caps", "-sys_ptrace", "--")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to start a program as another user")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv of util-linux")
def test_a_running_service_holds_its_own_port() -> None:
    argv = ["/usr/bin/python3", "-I", "-c", LISTENS]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True, cwd="/", user=65534, group=65534) as holder:
        assert holder.stdin and holder.stdout
        try:
            number = int(holder.stdout.readline())

            def looked(mains: dict[str, int]) -> tuple[list[int], list[str]]:
                argv = [*BARE, sys.executable, "-c", LOOKS, str(number), json.dumps(mains)]
                done = subprocess.run(argv, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
                assert done.returncode == 0, done.stderr
                pids, told = json.loads(done.stdout)
                return pids, told

            pids, told = looked({"nqrust-manager": holder.pid})
            assert pids == [0], "the socket has a process that can be seen"
            assert told == []
            for mains in ({}, {"nqrust-agent": holder.pid}):
                _, (note,) = looked(mains)
                assert note.startswith(f"A process that cannot be seen from here holds port {number} of the manager.")
        finally:
            holder.stdin.close()
