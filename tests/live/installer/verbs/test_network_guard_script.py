"""The script `restore` of the network's guard, run by real shells on real links in a namespace of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from nqrust.installer.supervisor.alarm import Alarm
from nqrust.installer.supervisor.systemd_alarm import SystemdAlarms
from nqrust.installer.verbs.network.guard.change import Address, FileChange, LiveState, NetworkChange, Route
from nqrust.installer.verbs.network.guard.folder import FOLDER
from nqrust.installer.verbs.network.guard.live import parse_routes, parse_rules
from nqrust.installer.verbs.network.guard.script import restore_script, spare_name

NEEDS = ("unshare", "ip", "mount", "flock", "bash", "dash")
CHANGED = """
mount -t sysfs sysfs /sys && ip link set lo up
ip link add nic address 02:00:00:00:00:07 type veth peer name far && ip link add fcbr9 type bridge && ip link set nic master fcbr9
ip link set nic up && ip link set far up && ip link set fcbr9 up && ip address add 192.0.2.2/24 dev fcbr9
"""
"""A host that has made the change."""
LIVE = LiveState(
    "nic",
    "02:00:00:00:00:07",
    1500,
    (Address("192.0.2.2/24", "192.0.2.255"), Address("2001:db8::2/64")),
    (Route("-4", "198.51.100.0/24", "192.0.2.9", metric="50"), Route("-4", "default", "192.0.2.1", table="77")),
)
MANAGER = (
    "ip address replace 192.0.2.2/24 dev nic; ip address replace 2001:db8::2/64 dev nic;"
    "ip route replace 198.51.100.0/24 via 192.0.2.9 dev nic; ip route replace default via 192.0.2.1 dev nic table 77"
)
SHOWN = "ls /sys/class/net; ip -o address show dev nic; ip route show table all dev nic; readlink /sys/class/net/nic/master || :"


class Saved:
    """A guard's folder and the files of a change, below one folder. `old` has been replaced, `new` was made."""

    def __init__(self, root: Path) -> None:
        self.guard, self.etc = root / "guard", root / "etc"
        self.old, self.new = self.etc / "old.conf", self.etc / "sub" / "new.conf"
        self.spare = Path(spare_name(str(self.old)))

    def make(self, *, spare: bool = True, manager: str = MANAGER, live: LiveState = LIVE) -> None:
        shutil.rmtree(self.guard, ignore_errors=True)
        (self.guard / "before").mkdir(parents=True)
        self.new.parent.mkdir(parents=True, exist_ok=True)
        for path in (self.guard / "before" / "0", self.old):
            path.write_bytes(b"old\n")
            os.chmod(path, 0o640)
            os.chown(path, 7, 8)
            os.setxattr(path, "user.kept", b"yes")
        if spare:
            os.link(self.old, self.spare)
        draft = self.etc / "draft"
        draft.write_bytes(b"new\n")
        draft.rename(self.old)
        self.new.write_bytes(b"new\n")
        files = (
            FileChange(str(self.old), b"old\n", 0o640, 7, 8, b"new\n"),
            FileChange(str(self.new), None, 0o600, 0, 0, b"new\n"),
        )
        change = NetworkChange("nic", "fcbr9", files, (), (("sh", "-c", manager),), live, ())
        text = restore_script(change, bridge_was_there=False, folders=(str(self.new.parent),), tidy=())
        self.script.write_text(text.replace(FOLDER, str(self.guard)))
        (self.guard / "armed").touch()

    @property
    def script(self) -> Path:
        return self.guard / "restore"

    def is_back(self) -> None:
        found = self.old.stat()
        assert self.old.read_bytes() == b"old\n"
        assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o640, 7, 8)
        assert os.getxattr(self.old, "user.kept") == b"yes"
        assert sorted(path.name for path in self.etc.rglob("*")) == ["old.conf"]
        assert sorted(path.name for path in self.guard.iterdir()) == ["restore", "restored"]


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    lacking = [program for program in NEEDS if shutil.which(program) is None]
    if os.geteuid() != 0 or lacking:
        pytest.skip(f"needs root and {' '.join(lacking or NEEDS)}")
    return Saved(tmp_path)


def on_links(line: str, *words: str, check: bool = True) -> str:
    argv = ["unshare", "--net", "--mount", "bash", "-c", f"{CHANGED}\n{line}", "bash", *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("shell", "spare"),
    # (busybox's cp keeps no extended attributes, which the second name of the file needs no copy for)
    [("dash", True), ("dash", False), ("bash --posix", False), ("busybox sh", True)],
)
def test_old_files_addresses_and_routes_come_back(saved: Saved, shell: str, spare: bool) -> None:
    if shutil.which(shell.split()[0]) is None:
        pytest.skip(f"needs {shell}")
    saved.make(spare=spare, manager="exit 1")
    inode = saved.spare.stat().st_ino if spare else 0
    shown = on_links(f'{shell} "$1" fire && {SHOWN}', str(saved.script))
    saved.is_back()
    assert not spare or saved.old.stat().st_ino == inode, "it is the very file"
    assert "fcbr9" not in shown.split("is back")[1]
    for text in ("192.0.2.2/24 brd 192.0.2.255", "2001:db8::2/64", "198.51.100.0/24 via 192.0.2.9", "metric 50", "table 77"):
        assert text in shown
    assert "sets the addresses of nic" in shown


@pytest.mark.parametrize("manager", ["exit 1", "ip address replace 192.0.2.2 peer 198.51.100.1/32 dev nic"])
def test_point_to_point_address_comes_back_once_with_its_other_end(saved: Saved, manager: str) -> None:
    """A gateway that is the other end, and an IPv4 route over an IPv6 one: as some hosting companies give them."""
    routes = (Route("-4", "203.0.113.0/24", "fe80::1"), Route("-4", "default", "198.51.100.1"))
    saved.make(live=replace(LIVE, addresses=(Address("192.0.2.2/32", peer="198.51.100.1/32"),), routes=routes), manager=manager)
    shown = on_links(f'sh "$1" fire && {SHOWN}; ip -4 address show dev nic', str(saved.script))
    saved.is_back()
    assert shown.partition("is back\n")[2].count("inet 192.0.2.2") == 2 == shown.count("inet 192.0.2.2 peer 198.51.100.1/32 "), (
        shown
    )
    assert "default via 198.51.100.1" in shown and "203.0.113.0/24 via inet6 fe80::1" in shown


def test_route_with_several_next_hops_is_the_network_managers_alone(saved: Saved) -> None:
    """ip(8) lists it under no device, so nothing of nqr sees it."""
    add = "set -e; ip route add default nexthop via 192.0.2.1 dev fcbr9 nexthop via 192.0.2.9 dev fcbr9"
    assert parse_routes(on_links(f"{add}; ip -json -4 route show table all dev fcbr9"), "-4") == ()


def test_nic_that_nqr_gave_back_returns_to_its_bridge(saved: Saved) -> None:
    saved.make(manager="exit 1", live=replace(LIVE, device="fcbr9", port_of="fcbr9"))
    given_back = "ip link set nic nomaster; ip link delete fcbr9; ip address add 192.0.2.2/24 dev nic"
    show = "ip -o address show; ip route show table all; readlink /sys/class/net/nic/master; cat /sys/class/net/fcbr9/address"
    shown = on_links(f'{given_back}; sh "$1" fire && echo done && {show}', str(saved.script)).split("done\n")[1]
    saved.is_back()
    assert "fcbr9    inet 192.0.2.2/24" in shown and "nic    inet 192.0.2.2/24" not in shown
    assert "default via 192.0.2.1 dev fcbr9 table 77" in shown
    assert shown.endswith("/fcbr9\n02:00:00:00:00:07\n")


def test_bridge_that_is_made_again_reads_advertisements_as_before(saved: Saved) -> None:
    """The kernel's route would stand beside that of a manager that reads them itself."""
    saved.make(live=replace(LIVE, device="fcbr9", port_of="fcbr9", accept_ra="0"), manager="exit 1")
    given_back = "ip link set nic nomaster; ip link delete fcbr9"
    shown = on_links(f'{given_back}; sh "$1" fire && echo done && cat /proc/sys/net/ipv6/conf/fcbr9/accept_ra', str(saved.script))
    assert shown.endswith("done\n0\n")


def test_network_manager_makes_its_bridge_itself(saved: Saved) -> None:
    """NetworkManager takes a bridge that is there for another program's, and the kernel reads advertisements there."""
    makes = "ip link add fcbr9 type bridge && ip link set fcbr9 alias managers; ip link set nic master fcbr9"
    saved.make(live=replace(LIVE, device="fcbr9", port_of="fcbr9"), manager=makes)
    given_back = "ip link set nic nomaster; ip link delete fcbr9"
    shown = on_links(f'{given_back}; sh "$1" fire && echo done && cat /sys/class/net/fcbr9/ifalias', str(saved.script))
    saved.is_back()
    assert shown.endswith("done\nmanagers\n"), shown


ASKED = (
    "not fwmark 0xca6c table 51820", "table main suppress_prefixlength 0", "from 192.0.2.0/24 to 192.0.2.0/24 table 77",
    "iif nic ipproto tcp dport 22-23 sport 5 uidrange 100-200 tos 0x10 table 7", "oif nic fwmark 0x1/0xff unreachable",
)  # fmt: skip
"""Rules of tunnels and of services, for `ip rule add`. wg-quick(8) adds the first two."""


@pytest.mark.parametrize("gone", [False, True], ids=["still there", "gone"])
@pytest.mark.parametrize("family", ["-4", "-6"])
def test_policy_rules_are_those_from_before(saved: Saved, family: str, gone: bool) -> None:
    """A rule without one of its parts would be another one, such as the way past a tunnel."""
    make = "; ".join(f"ip {family} rule add {words}" for words in ASKED if family == "-4" or "192" not in words)
    wanted = on_links(f"set -e; {make}; ip -j {family} rule")
    saved.make(manager="exit 1", live=replace(LIVE, rules=parse_rules(wanted, family)))
    shown = on_links(f'{":" if gone else make}; sh "$1" fire && echo done && ip -j {family} rule', str(saved.script))
    assert json.loads(shown.split("done\n")[1]) == json.loads(wanted)


def test_hanging_manager_does_not_keep_the_network_away(saved: Saved) -> None:
    saved.make(manager="sleep 60")
    began = time.monotonic()
    shown = on_links(f'sh "$1" fire; {SHOWN}', str(saved.script))
    assert "192.0.2.2/24" in shown and time.monotonic() - began < 28
    saved.is_back()


def test_early_script_does_not_wait_for_another_one(saved: Saved) -> None:
    """A network manager that the other one restarts would wait for it."""
    saved.make()
    on_links('exec 8<"$1"; flock 8; timeout 5 sh "$1" early', str(saved.script))
    assert (saved.guard / "armed").exists()


def test_script_killed_anywhere_ends_the_work_when_it_runs_again(saved: Saved) -> None:
    """A trap of bash ends it before its Nth command."""
    died = 0
    for number in range(1, 200, 4):
        saved.make()
        killed = f'n=0; set -T; trap \'n=$((n+1)); [ "$n" -ne {number} ] || kill -KILL "$BASHPID"\' DEBUG; . "$1" fire'
        shown = on_links(f'bash -c \'{killed.replace(chr(39), chr(39) + chr(92) + chr(39) + chr(39))}\' bash "$1" >/dev/null 2>&1;'
                         f'echo "ended $?"; sh "$1" fire; {SHOWN}', str(saved.script), check=False)  # fmt: skip
        assert "192.0.2.2/24" in shown and "table 77" in shown, (number, shown)
        saved.is_back()
        if "ended 137" not in shown:
            break
        died += 1
    assert died > 10


def test_full_disk_does_not_keep_the_old_files_away(saved: Saved) -> None:
    """The disk has no room for another byte. A rename of the old file needs none."""
    root = saved.etc.parent
    prepare = f"mount -t tmpfs -o size=256k,nr_inodes=40 tmpfs {root}"
    made = (
        f"from pathlib import Path; from tests.live.installer.verbs.test_network_guard_script import Saved; s = Saved(Path({str(root)!r}));"
        "s.make(); f = open(s.guard / 'filler', 'wb', buffering=0)\n"
        "try:\n  while f.write(bytes(512)): pass\nexcept OSError as e: print(e.errno)\n"
    )
    check = f"Path({str(root)!r}); s = Saved(root); (s.guard / 'filler').unlink(); s.is_back()"
    after = f"from pathlib import Path; from tests.live.installer.verbs.test_network_guard_script import Saved; root = {check}"
    argv = [
        "unshare",
        "--net",
        "--mount",
        "bash",
        "-ec",
        f'{CHANGED}\n{prepare}\n"$1" -c "$2"\nsh "$4" fire\n"$1" -c "$3"',
        "bash",
    ]
    python = os.sys.executable  # type: ignore[attr-defined]
    done = subprocess.run(
        [*argv, python, made, after, str(saved.script)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "28" in done.stdout.split(), "the disk was full"


@pytest.mark.parametrize("verb", ["fire", "late"])
def test_decision_that_cannot_be_written_is_tried_again(saved: Saved, verb: str) -> None:
    """A file system may be read-only for a while. An end without a failure would be the guard's last word."""
    saved.make()
    guard = saved.guard
    read_only = f"mount --bind {guard} {guard} && mount -o remount,bind,ro {guard}"
    again = f'sh "$1" {verb}; echo "ended $?"; umount {guard}; sh "$1" {verb}; echo "ended $?"'
    shown = on_links(f"{read_only}; {again}", str(saved.script))
    saved.is_back()
    assert [line for line in shown.splitlines() if "ended" in line] == ["ended 1", "ended 0"]
    assert "failed: the decision could not be written" in shown


def test_guard_that_was_not_armed_goes_at_its_alarm(saved: Saved) -> None:
    """nqr was killed before it changed anything. The saved files can hold secrets."""
    saved.make(manager="echo asked")
    (saved.guard / "armed").unlink()
    assert "asked" not in on_links('sh "$1" fire', str(saved.script))
    assert [path.name for path in saved.guard.iterdir()] == ["restore"] and not saved.spare.exists()
    assert saved.old.read_bytes() == b"new\n"


def test_file_that_nqr_did_not_write_yet_is_back_at_once(saved: Saved) -> None:
    """The run was killed right after it armed the guard: the file and its second name are one file."""
    saved.make()
    saved.old.unlink()
    os.link(saved.spare, saved.old)
    assert "failed" not in on_links('sh "$1" fire 2>&1', str(saved.script))
    saved.is_back()


def test_either_nqr_or_the_script_decides(saved: Saved) -> None:
    """One of two renames succeeds, and only if it is the script's the files come back."""
    wins = {"disarmed": 0, "restored": 0}
    for number in range(30):
        saved.make()
        thread = threading.Timer(0.01 * number, _disarm, [saved])
        thread.start()
        done = subprocess.run(
            ["unshare", "--net", "--mount", "sh", "-c", f'{CHANGED}\nexec sh "$1" fire', "sh", str(saved.script)],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        thread.join()
        assert done.returncode == 0, done.stdout + done.stderr
        ends = [name for name in ("armed", "fired", "disarmed", "restored") if (saved.guard / name).exists()]
        assert len(ends) == 1 and saved.old.read_bytes() == (b"new\n" if ends == ["disarmed"] else b"old\n")
        wins[ends[0]] += 1
        shutil.rmtree(saved.etc)
    assert wins["disarmed"] and wins["restored"], f"both come first sometimes: {wins}"
    print(wins)


def test_systemd_reads_its_files_when_the_script_has_ended(tmp_path: Path) -> None:
    """A service without a file stops all of its processes, such as the DHCP client of the way back."""
    said, script, systemctl = tmp_path / "said", tmp_path / "script", tmp_path / "systemctl"
    systemctl.write_text(
        f"#!/bin/sh\ncase $* in *daemon-reload*) kill -0 $(cat {tmp_path}/pid) && echo runs >>{said} || echo ended >>{said} ;; esac\n"
    )
    systemctl.chmod(0o755)
    lines = SystemdAlarms().tidy(Alarm("of-the-test", "", str(tmp_path), str(script), ()))
    script.write_text("\n".join([f"echo $$ >{tmp_path}/pid", *lines, "sleep 1", ""]))
    subprocess.run(["sh", script], check=True, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, timeout=60)
    deadline = time.monotonic() + 20
    while not said.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert said.read_text() == "ended\n"


def _disarm(saved: Saved) -> None:
    try:
        os.rename(saved.guard / "armed", saved.guard / "disarmed")
    except FileNotFoundError:
        return
