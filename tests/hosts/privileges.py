"""What the services of an installation may do, and what their users can read."""

from __future__ import annotations

import re

from tests.hosts.machine import Machine
from tests.hosts.product import CONFIG

LIMITS = {"nqrust-manager": 4.0, "nqrust-ui": 4.0, "nqrust-dhcp": 4.0, "nqrust-agent": 7.7}
"""The highest exposure of systemd-analyze(1), security: 0 is closed, 10 is open."""
NETWORK_ONLY = 1 << 10 | 1 << 12 | 1 << 13
"""CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW: linux/capability.h."""
OF_THE_UI = (f"{CONFIG}/ui.env", "/opt/nqrust-microvm/bin/ui")
NOT_OF_THE_UI = (
    *(
        f"{CONFIG}/{name}"
        for name in ("manager.env", "database-password", "agent.env", "bootstrap.json", "config.yaml", "cli-token")
    ),
    *(f"/var/lib/nqrust-microvm/{name}" for name in ("secrets.json", "journal.jsonl", "agent/credentials.json")),
    "/opt/nqrust-microvm/backups",
)


def are_what_systemd_analyze_allows(host: Machine) -> None:
    exposed = {}
    for name in LIMITS:
        said = host.run(["systemd-analyze", "security", "--no-pager", f"{name}.service"], check=False)
        figure = re.search(r"Overall exposure level for \S+: ([\d.]+)", said.stdout)
        assert figure, said.describe()
        exposed[name] = float(figure[1])
    assert all(exposed[name] <= limit for name, limit in LIMITS.items()), exposed
    pid = host.run(["systemctl", "show", "-P", "MainPID", "nqrust-dhcp"]).stdout.strip()
    dnsmasq = dict(line.split(":\t", 1) for line in host.read(f"/proc/{pid}/status").splitlines() if ":\t" in line)
    assert "0" not in dnsmasq["Uid"].split() and int(dnsmasq["CapPrm"], 16) & ~NETWORK_ONLY == 0, dnsmasq


def of_the_web_ui(host: Machine) -> None:
    pids = {name: host.run(["systemctl", "show", "-P", "MainPID", f"nqrust-{name}"]).stdout.strip() for name in ("manager", "ui")}
    owners = {name: host.run(["stat", "-c", "%U", f"/proc/{pid}"]).stdout.strip() for name, pid in pids.items()}
    assert owners == {"manager": "nqrust", "ui": "nqrust-ui"}
    for path in (*OF_THE_UI, *NOT_OF_THE_UI, f"/proc/{pids['manager']}/environ"):
        assert host.exists(path), path
        assert readable(host, "nqrust-ui", path) == (path in OF_THE_UI), path
    assert not readable(host, "nqrust", f"{CONFIG}/ui.env")


def readable(host: Machine, user: str, path: str) -> bool:
    """Whether a process of this user can open the file or list the folder."""
    script = "import os,sys\np=sys.argv[1]\nos.listdir(p) if os.path.isdir(p) else open(p,'rb').read(1)"
    who = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
    return host.run([*who, "python3", "-c", script, path], check=False).ok
