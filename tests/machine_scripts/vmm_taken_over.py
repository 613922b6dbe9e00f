"""Runs in namespaces of its own: a stand-in for a VMM, launched as one, that tries what a guest would that has taken it over.

Run inside: `unshare --net --mount --ipc python vmm_taken_over.py`. Prints what was reached as JSON: by a process of the VM's user
that lives in the host's namespaces (so that the test can see a hole), by a launched VMM, by its console, and by the programs
that the agent runs as that user.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from nqrust.agent import users, view
from nqrust.agent.disks import tools
from nqrust.agent.network.taps import Taps
from nqrust.agent.scopes import launch as launcher
from nqrust.agent.scopes.port import Launch
from nqrust.agent.scopes.process import ProcessScopes
from nqrust.agent.settings import Settings
from nqrust.contract.names import VM_USERS, tap_name
from nqrust.host import confinement
from nqrust.host.local import LocalHost

USER, VM, KEY = VM_USERS[11], "taken-over-1", 0x4E5152
LARGEST = 32 << 20
LAN, METADATA = "198.51.100.1", "169.254.169.254"
ABSTRACT, BUS = "\0nqr-a-service-of-the-host", "/run/dbus/system_bus_socket"

ATTACK = """
import ctypes, fcntl, json, os, socket, struct, sys, time
tap, key, abstract, bus = sys.argv[1], int(sys.argv[2]), "\\0" + sys.argv[3], sys.argv[4]
common, own = sys.argv[6], sys.argv[7:]
libc, held, found = ctypes.CDLL(None, use_errno=True), [], {}

def can(name, attempt):
    try:
        found[name] = attempt() is not False
    except OSError:
        found[name] = False

def connect(family, address):
    with socket.socket(family) as one:
        one.settimeout(1)
        one.connect(address)

def open_tap():
    held.append(os.open("/dev/net/tun", os.O_RDWR))
    fcntl.ioctl(held[-1], 0x400454CA, struct.pack("16sH", tap.encode(), 0x1002))

def set_mac():
    fcntl.ioctl(held[0], 0x8924, struct.pack("16sH6s", tap.encode(), 1, bytes([2, 0, 0, 0, 0, 1])))

def make(folder):
    held.append(os.open(folder + "/%d" % os.getpid(), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    os.unlink(folder + "/%d" % os.getpid())  # a folder that is looked into does not tell
    held.append(os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o600))

def make_anywhere():
    made = []
    for top in own:
        for folder, _, _ in os.walk(top):
            for path in {folder, os.path.realpath(folder)}:
                try:
                    make(path)
                    made.append(path)
                except OSError:
                    pass
    return bool(made)

def open_terminals():
    for path in ("/dev/ptmx", "/dev/pts/ptmx"):
        try:
            held.append(os.open(path, os.O_RDWR | os.O_NOCTTY))
            os.ttyname(held[-1])
            fcntl.ioctl(held[-1], 0x80045430, bytearray(4))  # TIOCGPTN
            return True
        except OSError:
            pass
    return False

def user_namespace():
    child = os.fork()
    if child == 0:
        os._exit(0 if libc.unshare(0x10000000) == 0 else 1)
    return os.waitpid(child, 0)[1] == 0

def traces():
    child = os.fork()
    if child == 0:
        os._exit(0 if libc.ptrace(0, 0, 0, 0) == 0 else 1)  # PTRACE_TRACEME
    return os.waitpid(child, 0)[1] == 0

def reserved_room():
    # In a file of its own: up to the limit for its length, and beyond it.
    taken = []
    for top in own:
        for folder, _, names in os.walk(top):
            for path in [os.path.join(folder, name) for name in names]:
                try:
                    one = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)
                except OSError:
                    continue
                place = struct.pack("hhxxxxqqiI4i", 0, 0, 0, 16 << 20, 0, 0, 0, 0, 0, 0)
                for reserve in (
                    *(lambda mode=mode: libc.syscall(285, one, mode, ctypes.c_long(0), ctypes.c_long(16 << 20)) for mode in (0, 1, 0x10, 0x11)),
                    *(lambda number=number: fcntl.ioctl(one, 0x40305800 | number, place) for number in (40, 42, 57)),
                ):
                    try:
                        reserve()
                    except OSError:
                        pass
                    if os.fstat(one).st_blocks << 9 >= 16 << 20:
                        taken.append(path)
                        os.ftruncate(one, 0)
    return bool(taken)

if tap:
    open_tap()
    print("attached", flush=True)
    while not os.path.exists(sys.argv[5]):
        time.sleep(0.02)
for name, address in {"loopback": "127.0.0.1", "lan": "198.51.100.1", "metadata": "169.254.169.254", "gateway": "10.0.0.1"}.items():
    can(name, lambda: connect(socket.AF_INET, (address, 8080)))
can("loopback over IPv6", lambda: connect(socket.AF_INET6, ("::1", 8080)))
can("abstract socket", lambda: connect(socket.AF_UNIX, abstract))
can("system bus", lambda: connect(socket.AF_UNIX, bus))
can("socket in /tmp", lambda: connect(socket.AF_UNIX, "/tmp/service"))
can("shared memory", lambda: libc.shmget(key, 0, 0) >= 0)
can("user namespace", user_namespace)
can("virtual socket", lambda: socket.socket(40, socket.SOCK_STREAM).close())
can("ring of system calls", lambda: libc.syscall(425, 4, ctypes.create_string_buffer(120)) >= 0)
can("debugger", traces)
can("keys of the kernel", lambda: libc.syscall(248, b"user", b"nqr", b"x", 1, -2) >= 0)
can("shared memory as files", lambda: make("/dev/shm"))
can("file in /var/tmp", lambda: make("/var/tmp"))
can("file in a folder of everybody", lambda: make(common))
can("terminal", open_terminals)
can("device of the host", lambda: os.close(os.open("/dev/full", os.O_RDWR)))
can("file in a folder of its own", make_anywhere)
can("reserved room", reserved_room)
if tap:
    can("another TAP", open_tap)
    can("MAC of the TAP", set_mac)
print("found" + json.dumps(found), flush=True)
time.sleep(600 if tap else 0)
"""


def sh(line: str) -> str:
    return subprocess.run(line, shell=True, check=True, capture_output=True, text=True).stdout


def lay_out() -> None:
    """A host with a LAN, metadata, a bridge, and services that every user may talk to."""
    sh(
        "mount -t sysfs sysfs /sys; mount -t tmpfs tmpfs /run; mkdir -p /run/netns /run/dbus; ip link set lo up; mount -t tmpfs tmpfs /tmp"
    )
    sh("ip netns add web; ip link add uplink type veth peer name eth0 netns web; ip link set uplink up")
    sh(f"ip addr add 198.51.100.2/24 dev uplink; ip route add {METADATA}/32 dev uplink")
    sh(f"ip -n web addr add {LAN}/24 dev eth0; ip -n web addr add {METADATA}/32 dev eth0; ip -n web link set eth0 up")
    sh("ip link add fcbr0 type bridge; ip addr add 10.0.0.1/24 dev fcbr0; ip link set fcbr0 up")
    for name, path in (("tun", "/dev/net/tun"),):
        sh(f"mknod -m 666 /run/{name} c 10 200; mount --bind /run/{name} {path}")
    for family, address in ((socket.AF_INET, ("0.0.0.0", 8080)), (socket.AF_INET6, ("::1", 8080))):
        listen(family, address)
    listen(socket.AF_UNIX, ABSTRACT)
    for path in (BUS, "/tmp/service"):
        listen(socket.AF_UNIX, path)
        os.chmod(path, 0o666)
    assert ctypes.CDLL(None).shmget(KEY, 4096, 0o1666) >= 0
    serve = "import socket, time; one = socket.create_server(('0.0.0.0', 8080)); print('ready', flush=True); time.sleep(600)"
    HELD.append(subprocess.Popen(["ip", "netns", "exec", "web", sys.executable, "-c", serve], stdout=subprocess.PIPE))
    assert HELD[-1].stdout.readline() == b"ready\n"


HELD: list[Any] = []


def listen(family: int, address: Any) -> None:
    one = socket.socket(family)
    one.bind(address)
    one.listen(64)
    HELD.append(one)


def parsed(text: str) -> dict[str, bool]:
    (line,) = [line for line in text.splitlines() if "found{" in line]
    found: dict[str, bool] = json.loads(line.partition("found")[2])
    return found


def until(condition: Any) -> Any:
    end = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
    return found


def launched(work: Path) -> dict[str, Any]:
    """What a VMM reaches that holds its TAP, and what a viewer's screen does."""
    host = LocalHost()
    settings = Settings(run_dir=f"{work}/fc", state_dir=f"{work}/state")
    Path(settings.state_dir).mkdir()
    launcher.prepare(host, settings)
    scopes, taps = ProcessScopes(host, settings), Taps(host, "fcbr0", isolated=True, records=list)
    directory, tap, go = work / "fc" / "vms" / VM, tap_name(VM), work / "go"
    directory.mkdir(parents=True)
    os.chown(directory, 0, USER)  # by its group the agent knows whose processes are whose
    launcher.prepare_vm(host, settings, USER, str(directory))
    own = (str(directory), launcher.screen_dir(settings, USER))
    arguments = (tap, str(KEY), ABSTRACT[1:], BUS, str(go), str(work / "common"), *own)
    argv = (*users.become(USER), sys.executable, "-c", ATTACK, *arguments)
    device = Path(view.own_devices(str(directory)), "net", "tun")  # as the driver of QEMU makes it
    device.parent.mkdir()
    sh(f"mknod -m 600 {device} c 10 200; chown {USER}:{USER} {device}")
    spawned = Launch(VM, "VM test", argv, str(directory), USER, largest_file=LARGEST, tap=tap)
    scopes.spawn(spawned)
    log = Path(spawned.log)
    until(lambda: "attached" in log.read_text())
    vmm = min(process.pid for process in scopes.all()[VM].processes if process.comm.startswith("python"))  # it forks
    users.seal(host, f"{directory}/run", USER)  # as a driver does
    taps.take(tap, VM, vmm)
    bridge = Path("/sys/class/net/fcbr0/address").read_text()
    go.touch()
    until(lambda: "found{" in log.read_text())
    said = {"vmm": parsed(log.read_text()), "bridge kept its MAC": Path("/sys/class/net/fcbr0/address").read_text() == bridge}
    said["tap works"] = Path(f"/sys/class/net/{tap}/carrier").read_text().strip() == "1"
    viewer = launcher.viewer(USER, str(directory), "", settings)
    command = (*viewer[: viewer.index("screen")], sys.executable, "-c", ATTACK, "", *arguments[1:])
    said["viewer"] = parsed(subprocess.run(command, check=True, capture_output=True, text=True, timeout=90).stdout)
    scopes.kill(VM, 9)
    return said


def main() -> None:
    work = Path(tempfile.mkdtemp(prefix="nqr-", dir="/var/lib"))  # not below a folder that is hidden
    work.chmod(0o711)
    (work / "common").mkdir()
    (work / "common").chmod(0o1777)
    (work / "common" / "of-the-user").touch(mode=0o600)
    os.chown(work / "common" / "of-the-user", USER, USER)
    try:
        lay_out()
        plain = (sys.executable, "-c", ATTACK, "", str(KEY), ABSTRACT[1:], BUS, "", str(work / "common"), str(work / "common"))
        run = {"check": True, "capture_output": True, "text": True, "timeout": 90}
        said: dict[str, Any] = {"in the host's": parsed(subprocess.run((*users.become(USER), *plain), **run).stdout)}  # type: ignore[call-overload]
        said["not confined"] = confinement.confine()
        said.update(launched(work))
        disk = work / "disk"
        disk.write_bytes(b"\0" * 4096)
        os.chown(disk, USER, USER)
        said["disk tool"] = parsed(tools.run(LocalHost(), str(disk), *plain).stdout)
        print(json.dumps(said))
    finally:
        for one in HELD:
            one.kill() if isinstance(one, subprocess.Popen) else one.close()
        shutil.rmtree(work, ignore_errors=True)


main()
