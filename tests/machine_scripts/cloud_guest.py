"""Runs in network and mount namespaces, started by tests/live/image/test_cloud_boots.py: an imported cloud image under emulation.

cloud_guest.py IMAGE_FOLDER WORK_FOLDER KEY_FILE     prints one JSON object of what was seen
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.machine_scripts.vms_on_a_bridge import A, Site, up

ADDRESS = "10.0.0.20"
USER_DATA = "#cloud-config\nlocale: false\nwrite_files:\n  - path: /etc/of-user-data\n    content: it was read\n"
LOOKS = {
    "host": "hostname",
    "data": "cat /etc/of-user-data",
    "root": "findmnt -no SOURCE,FSTYPE /",
    "failed": "systemctl --failed --no-legend",
    "mebibytes": "df --output=size -m / | tail -1",
    "agent": "systemctl is-active nqr-guest-agent",
    "host key": "cat /etc/ssh/ssh_host_ed25519_key.pub",
}
BOOT = 1200.0  # seconds; a Debian takes some minutes under emulation


async def ssh(key: str, command: str) -> subprocess.CompletedProcess[str]:
    options = ("BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ConnectTimeout=30", "LogLevel=ERROR")
    argv = ["ssh", "-F", "none", "-i", key, *(word for option in options for word in ("-o", option)), f"root@{ADDRESS}", command]
    try:
        return await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired as error:
        return subprocess.CompletedProcess(argv, 255, "", f"{error}")


async def work(site: Site) -> dict[str, Any]:
    key = sys.argv[3]
    site.start_agent()
    await up(site)
    public, started = Path(f"{key}.pub").read_text().strip(), time.monotonic()
    async with site.client() as client:
        spec = site.spec(
            A, "cloud1", ADDRESS, memory_mib=768, disk_mib=2048, ssh_keys=[public], user_data=USER_DATA, network_config="dhcp"
        )
        made = await client.put_vm(spec)
        seen: dict[str, Any] = {"state": made.state, "network": made.network_written}
        while (answer := await ssh(key, "cloud-init status --wait >/dev/null; echo in")).stdout.strip() != "in":
            if time.monotonic() - started > BOOT:
                raise SystemExit(f"{answer.stderr}\n{(await client.console_log(A))[-6000:]}")
            await asyncio.sleep(5)
        seen["seconds"] = round(time.monotonic() - started)
        for name, command in LOOKS.items():
            seen[name] = (await ssh(key, command)).stdout.strip()
        status = await client.get_vm(A)
        assert status is not None
        seen["report"] = status.guest.model_dump(mode="json") if status.guest else None
        await client.delete_vm(A)
    return seen


if __name__ == "__main__":
    Site(Path(sys.argv[1]), Path(sys.argv[2])).answer(work)
