"""A user of the host holds the ports of manager and agent when these start. They come up once the ports are free."""

from __future__ import annotations

import pytest

from nqrust.contract.names import AGENT_PORT, MANAGER_PORT
from tests.hosts.product import document, eventually, nqr
from tests.hosts.ready import Ready

pytestmark = pytest.mark.timeout(1800)
SERVICES = ("nqrust-manager", "nqrust-agent")
HOLDS = f"""
cat >/var/tmp/holds.py <<'END'
import socket, time
held = [socket.create_server(("127.0.0.1", port)) for port in ({MANAGER_PORT}, {AGENT_PORT})]
time.sleep(1800)
END
systemctl stop {" ".join(SERVICES)}
useradd --no-create-home bob
systemd-run -q --unit holds --uid bob /usr/bin/python3 /var/tmp/holds.py
for port in {MANAGER_PORT} {AGENT_PORT}; do
  for try in $(seq 100); do ss -ltnH "sport = :$port" | grep -q . && break; sleep 0.1; done
done
systemctl start --no-block {" ".join(SERVICES)}
"""


def restarts(ready: Ready, unit: str) -> int:
    return int(ready.host.run(["systemctl", "show", "--property=NRestarts", "--value", unit]).stdout)


def test_services_start_once_their_ports_are_free(production: Ready) -> None:
    host = production.host
    host.run(f"set -e\n{HOLDS}")
    for unit in SERVICES:
        eventually(f"{unit} tries again", lambda unit=unit: restarts(production, unit) > 6, 180)
    told = [note for note in document(host, "status")["notes"] if "holds port" in note]
    for port, purpose in ((MANAGER_PORT, "the manager"), (AGENT_PORT, "the agent")):
        assert [note for note in told if f"of user bob holds port {port} of {purpose}." in note], told
    assert "of user bob holds port" in nqr(host, "doctor", timeout=300, check=False).stdout
    host.run(["systemctl", "stop", "holds"])
    eventually("both run", lambda: all(service["active"] for service in document(host, "status")["services"]), 120)
    assert not [note for note in document(host, "status")["notes"] if "holds port" in note]
