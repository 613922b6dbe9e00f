"""Runs on the machine of the tests: boots image `container-runtime` under emulation, logs in on the serial console and runs what it is told there.

`python container_guest.py IMAGE_FOLDER WORK_FOLDER` prints what was seen as JSON. No network card: nothing here needs one.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import emulation  # beside this script

# A root file system of busybox alone, made on the spot.
MAKE_ROOT = (
    "mkdir -p /root/c/rootfs/bin /root/c/rootfs/proc /root/c/rootfs/dev /root/c/rootfs/sys && "
    "cp /bin/busybox /root/c/rootfs/bin/ && ln -s busybox /root/c/rootfs/bin/sh && cd /root/c"
)
MARKER = "echo NQR-IN-$((6*7))-$(busybox hostname)-$$-$(busybox ls / | busybox wc -l)"
CRUN = (
    'crun spec && sed -i \'s/"terminal": true/"terminal": false/; s/"sh"/"sh","-c","exec sh \\/m"/\' config.json && '
    f"echo '{MARKER}' >rootfs/m && crun run c1"
)
PODMAN = f"podman run --rm --network none --rootfs /root/c/rootfs sh -c '{MARKER}'"
BRIDGED = (
    "podman run --rm --rootfs /root/c/rootfs sh -c 'echo NQR-NET-$((6*7))-$(busybox ip -4 addr show eth0 | busybox grep -c inet)'"
)


class Console:
    def __init__(self, image: Path, disk: Path) -> None:
        self.process = emulation.start(image, disk, memory_mib=512)
        self.all = b""

    def wait_for(self, text: bytes, since: int, seconds: float) -> bool:
        assert self.process.stdout is not None
        end = time.monotonic() + seconds
        while text not in self.all[since:]:
            if time.monotonic() > end or self.process.poll() is not None:
                return False
            if select.select([self.process.stdout], [], [], 0.05)[0]:
                self.all += os.read(self.process.stdout.fileno(), 65536)
        return True

    def run(self, line: str, seconds: float) -> str:
        """What a command said, up to its exit code."""
        assert self.process.stdin is not None
        since = len(self.all)
        self.process.stdin.write(f"{line}; echo E''ND=$?\n".encode())
        self.process.stdin.flush()
        self.wait_for(b"END=", since, seconds)
        self.wait_for(b"\n", self.all.find(b"END=", since), 5)
        return self.all[since:].decode(errors="replace")


def main() -> None:
    image, work = Path(sys.argv[1]), Path(sys.argv[2])
    disk = work / "disk.ext4"
    subprocess.run(["cp", "--sparse=always", str(image / "rootfs.ext4"), str(disk)], check=True)
    started = time.monotonic()
    console = Console(image, disk)
    seen: dict[str, Any] = {}
    try:
        seen["login"] = console.wait_for(b"login:", 0, 180)
        seen["seconds_to_login"] = round(time.monotonic() - started, 1)
        assert console.process.stdin is not None
        console.process.stdin.write(b"root\n")
        console.process.stdin.flush()
        seen["prompt"] = console.wait_for(b"# ", 0, 30)
        seen["facts"] = console.run(
            "stat -fc %T /sys/fs/cgroup; cat /proc/modules | cut -d' ' -f1 | sort | tr '\\n' ' '; ls /usr/lib/modules/$(uname -r)/nqrust | wc -l",
            30,
        )
        seen["root"] = console.run(MAKE_ROOT, 30)
        for name, line in (("crun", CRUN), ("podman", PODMAN), ("bridged", BRIDGED)):
            began = time.monotonic()
            seen[name] = console.run(line, 240)
            seen[f"seconds_{name}"] = round(time.monotonic() - began, 1)
        console.process.stdin.write(b"poweroff\n")
        console.process.stdin.flush()
        began = time.monotonic()
        console.wait_for(b"never said", 0, 30)
        seen["stopped"] = console.process.poll() is not None
        seen["seconds_to_stop"] = round(time.monotonic() - began, 1)
    finally:
        console.process.kill()
        console.process.wait()
    seen["fsck"] = subprocess.run(["e2fsck", "-fn", str(disk)], capture_output=True).returncode
    print(json.dumps(seen, indent=1))
    (work / "console").write_bytes(console.all)


if __name__ == "__main__":
    main()
