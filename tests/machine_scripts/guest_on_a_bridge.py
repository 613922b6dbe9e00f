"""Runs in a network namespace: boots an image on a bridge with a DHCP server and something that takes reports, and prints what was seen as JSON.

Run inside a network namespace of its own: `unshare -n python guest_on_a_bridge.py IMAGE_FOLDER WORK_FOLDER HOW_TO_STOP`.
"""

from __future__ import annotations

import http.server
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import emulation  # beside this script

MAC, ADDRESS = "06:4e:00:00:00:01", "10.0.0.77"


def run(*argv: str, **more: Any) -> None:
    subprocess.run(argv, check=True, capture_output=True, **more)


def make_network(work: Path) -> subprocess.Popen[bytes]:
    for line in (
        "link set lo up",
        "link add fcbr0 type bridge",
        "addr add 10.0.0.1/24 dev fcbr0",
        "link set fcbr0 up",
        "tuntap add tap0 mode tap",
        "link set tap0 master fcbr0 up",
    ):
        run("ip", *line.split())
    return subprocess.Popen(
        [
            "dnsmasq",
            "-k",
            "-C",
            "/dev/null",
            "--port=0",
            "--bind-interfaces",
            "--interface=fcbr0",
            "--except-interface=lo",
            "--dhcp-range=10.0.0.10,static,255.255.255.0,1h",
            f"--dhcp-host={MAC},{ADDRESS}",
            f"--dhcp-leasefile={work}/leases",
            f"--log-facility={work}/dnsmasq.log",
            "--user=root",
        ]
    )


def take_reports() -> list[dict[str, Any]]:
    taken: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            taken.append({"path": self.path, "authorization": self.headers["authorization"], "report": body})
            self.send_response(204)
            self.end_headers()

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"a page\n")

        def log_message(self, format: str, *args: object) -> None:
            return None

    server = http.server.ThreadingHTTPServer(("10.0.0.1", 19091), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return taken


def make_disk(image: Path, work: Path) -> Path:
    disk = work / "disk.ext4"
    run("cp", "--sparse=always", str(image / "rootfs.ext4"), str(disk))
    (work / "conf").write_text("VM_ID=vm-1\nMANAGER_URL=http://10.0.0.1:19091\nTOKEN=s3cret\n")
    (work / "hostname").write_text("web1\n")
    orders = (
        f"rm /etc/hostname\nwrite {work}/hostname /etc/hostname\n"
        f"write {work}/conf /etc/guest-agent.conf\nsif /etc/guest-agent.conf mode 0100600\n"
    )
    run("debugfs", "-w", "-f", "/dev/stdin", str(disk), input=orders.encode())
    return disk


class Guest:
    """QEMU with the serial port on a pipe."""

    def __init__(self, image: Path, disk: Path, work: Path) -> None:
        self.qmp_path = work / "qmp"
        self.started = time.monotonic()
        self.process = emulation.start(
            image, disk, 256,
            "-netdev", "tap,id=n,ifname=tap0,script=no,downscript=no",
            "-device", f"virtio-net-pci,netdev=n,romfile=,mac={MAC}",
            "-qmp", f"unix:{self.qmp_path},server=on,wait=off",
        )  # fmt: skip
        self.said = b""

    def wait_for(self, so: Callable[[], bool], seconds: float) -> bool:
        assert self.process.stdout is not None
        end = time.monotonic() + seconds
        while not so():
            if time.monotonic() > end:
                return False
            if select.select([self.process.stdout], [], [], 0.05)[0]:
                self.said += os.read(self.process.stdout.fileno(), 65536)
        return True

    def type(self, text: str, until: bytes) -> str:
        assert self.process.stdin is not None
        self.said = b""
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()
        self.wait_for(lambda: until in self.said, 20)
        return self.said.decode(errors="replace")

    def qmp(self, order: dict[str, Any]) -> None:
        with socket.socket(socket.AF_UNIX) as channel:
            channel.connect(str(self.qmp_path))
            stream = channel.makefile("rw")
            stream.readline()
            for one in ({"execute": "qmp_capabilities"}, order):
                stream.write(json.dumps(one) + "\n")
                stream.flush()
                stream.readline()

    def stop(self, how: str) -> float | None:
        """Seconds until QEMU was gone; None when it did not go."""
        asked = time.monotonic()
        if how == "powerdown":
            self.qmp({"execute": "system_powerdown"})
        elif how == "ctrl-alt-del":
            keys = [{"type": "qcode", "data": key} for key in ("ctrl", "alt", "delete")]
            self.qmp({"execute": "send-key", "arguments": {"keys": keys}})
        else:
            assert self.process.stdin is not None
            self.process.stdin.write(f"{how}\n".encode())
            self.process.stdin.flush()
        gone = self.wait_for(lambda: self.process.poll() is not None, 10)
        return time.monotonic() - asked if gone else None


def main() -> None:
    image, work, how = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    seen: dict[str, Any] = {}
    dhcp = make_network(work)
    reports = take_reports()
    guest = Guest(image, make_disk(image, work), work)
    try:
        seen["login"] = guest.wait_for(lambda: b"web1 login:" in guest.said, 90)
        seen["seconds_to_login"] = round(time.monotonic() - guest.started, 2)
        guest.wait_for(lambda: bool(reports), 30)
        seen["seconds_to_report"] = round(time.monotonic() - guest.started, 2)
        seen["reports"] = reports[:1]
        seen["health"] = json.loads(urllib.request.urlopen(f"http://{ADDRESS}:9000/health", timeout=10).read())
        guest.type("root\n", b"# ")
        seen["shell"] = guest.type("uname -s; id -u; stat -c %a /etc/guest-agent.conf; echo E''ND\n", b"END\r\n")
        page = "-T 20 -qO- http://10.0.0.1:19091/"
        asked = f"wget {page}; sh -c '/usr/bin/wget {page}'; echo E''ND $?\n"
        seen["wget"] = guest.type(asked, b"\r\nEND ")
        seen["seconds_to_stop"] = guest.stop(how)
    finally:
        for process in (guest.process, dhcp):
            process.kill()
            process.wait()
    seen["fsck"] = subprocess.run(["e2fsck", "-fn", str(work / "disk.ext4")], capture_output=True).returncode
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
