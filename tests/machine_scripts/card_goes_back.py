"""Runs in namespaces of its own: gives a card back from its bridge, by nqr and by the undo script.

card_goes_back.py python|shell CASE. Prints what the host looks like afterwards. `CASES` says what happened before.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from base64 import b64encode
from pathlib import Path
from typing import Any

from nqrust.host.local import LocalHost
from nqrust.host.port import Completed
from nqrust.installer.engine.errors import NqrError
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.verb import Kept, UndoContext
from nqrust.installer.supervisor.detached_alarm import DetachedAlarms, watcher
from nqrust.installer.verbs.network import shell, undo
from nqrust.installer.verbs.network.guard import folder
from nqrust.installer.verbs.network.guard.arming import arm, write_new_files
from nqrust.installer.verbs.network.guard.change import LiveState, NetworkChange, file_change
from nqrust.installer.verbs.script.prelude import PRELUDE

HOST = LocalHost()
ETC = Path("/var/lib/of-the-test")
PROGRAMS = ETC / "supervisord.d"
MAIN, NEW = ETC / "main.conf", ETC / "added" / "card.conf"
LEASES, OF_DHCPCD = Path("/var/lib/dhcp"), Path("/var/lib/dhcpcd")
OF_BRIDGE, OF_CARD = LEASES / "dhclient.fcbr9.leases", LEASES / "dhclient.nic.leases"
LEASE = 'lease {\n  interface "fcbr9";\n  fixed-address 192.0.2.2;\n}\n'
MANAGER = ["/bin/sh", "-c", "ip link set nic nomaster; ip link delete fcbr9; ip address replace 192.0.2.2/24 dev nic"]
FAILING = ["/bin/sh", "-c", "ip link set nic nomaster; ip link delete fcbr9; false"]
HOST_WITH_THE_CARD_IN_A_BRIDGE = """
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t tmpfs tmpfs /var/lib; mount -t tmpfs tmpfs /run; ip link set lo up
ip link add nic address 02:00:00:00:00:07 type veth peer name far; ip link set far up
ip link add fcbr9 type bridge; ip link set nic master fcbr9 up; ip link set fcbr9 up
ip address add 192.0.2.2/24 dev fcbr9 valid_lft 4000 preferred_lft 3000; ip route add default via 192.0.2.1 dev fcbr9
"""
GIVEN_BACK = f"rm {NEW}; printf 'old\\n' >{MAIN}; ip link delete fcbr9; ip address add 192.0.2.2/24 dev nic"
CASES = {
    "as nqr left it": "",
    "nqr's files removed": f"rm {NEW}; printf 'old\\n' >{MAIN}",
    "added file changed": f"echo mine >>{NEW}",
    "main file changed": f"echo mine >>{MAIN}",
    "main file removed": f"rm {MAIN}",
    "added file removed": f"rm {NEW}",
    "newer lease": f"sed -i s/0.2.2/0.2.77/ {OF_BRIDGE}",
    "card taken out": "ip link set nic nomaster",
    "bridge deleted": "ip link delete fcbr9; ip address add 192.0.2.2/24 dev nic",
    "another's port": "ip link add tap0 type veth peer name other; ip link set tap0 master fcbr9",
    "a VM's port": "ip link add tapabcdefgh123 type veth peer name other; ip link set tapabcdefgh123 master fcbr9",
    "given back": GIVEN_BACK,
    "card gone": "ip link delete nic",
    "point to point": "ip address flush dev fcbr9; ip address add 192.0.2.2 peer 198.51.100.1/32 dev fcbr9;"
    " ip route add default via 198.51.100.1 dev fcbr9",
    "gateway on the link": "ip address flush dev fcbr9; ip address add 192.0.2.2/32 dev fcbr9;"
    " ip route add default via 198.51.100.1 dev fcbr9 onlink",
    "rare parts of addresses": "ip address flush dev fcbr9;"
    " ip address add 192.0.2.2/24 brd + dev fcbr9 label fcbr9:one metric 77 noprefixroute valid_lft 4000 preferred_lft 3000;"
    " ip address add 203.0.113.9 peer 203.0.113.1/32 dev fcbr9 label fcbr9:two metric 5;"
    " ip address add 2001:db8::2/64 dev fcbr9 metric 99 noprefixroute nodad;"
    " ip route add 192.0.2.0/24 dev fcbr9 proto kernel src 192.0.2.2 metric 100;"
    " ip -6 route add 2001:db8::/64 dev fcbr9 proto kernel metric 100;"
    " ip route add default via 192.0.2.1 dev fcbr9",
    "manager gone": "",
    "manager failed": "",
    "killed in the window": "",
    "dhcpcd": "",
    "killed before the guard was armed": GIVEN_BACK,
    "killed while the guard saves": "",
}


def main(way: str, case: str) -> None:
    sh(HOST_WITH_THE_CARD_IN_A_BRIDGE)
    for path in (PROGRAMS, NEW.parent, LEASES, OF_DHCPCD):
        path.mkdir(parents=True)
    args = record(case)
    if case == "killed in the window":
        killed_in_the_window(args)
    if case == "killed while the guard saves":
        print(json.dumps(killed_while_it_saves(way, args)))
        return
    if case == "killed before the guard was armed":
        killed_before_it_was_armed(args)
    for path, content in ((NEW, "new\n"), (MAIN, "new\n"), (OF_BRIDGE, f"# Written by nqr\n{LEASE}")):
        path.write_text(content)
    if case == "dhcpcd":
        (OF_DHCPCD / "fcbr9.lease").write_text("\2\0the server's answer")
    sh(CASES[case])
    said = (by_python if way == "python" else by_shell)(args)
    print(json.dumps({**seen(), "said": said}))


def sh(lines: str) -> str:
    return subprocess.run(["sh", "-ec", lines], check=True, capture_output=True, text=True).stdout


def record(case: str) -> dict[str, Any]:
    files = [entry(NEW, None), entry(MAIN, b"old\n"), entry(OF_BRIDGE, None)]
    files += [entry(OF_DHCPCD / "fcbr9.lease", None)] if case == "dhcpcd" else []
    failing = {
        "manager failed": FAILING,
        "point to point": FAILING,
        "gateway on the link": FAILING,
        "rare parts of addresses": FAILING,
    }
    back = ["no-such-manager", "up"] if case == "manager gone" else failing.get(case, MANAGER)
    again = ["/bin/sh", "-c", "ip link add fcbr9 type bridge 2>/dev/null; ip link set nic master fcbr9"]
    return {
        "link": "nic", "bridge": "fcbr9", "files": files, "load": [again], "restore": [back], "gateways": [],
        "supervisor": "supervisord", "programs_dir": str(PROGRAMS), "window": 60, "folders": [str(NEW.parent)],
    }  # fmt: skip


def entry(path: Path, before: bytes | None) -> dict[str, Any]:
    old = None if before is None else b64encode(before).decode()
    return {"path": str(path), "before": old, "mode": 0o644, "sha256": hashlib.sha256(b"new\n").hexdigest()}


def killed_in_the_window(args: dict[str, Any]) -> None:
    """A run armed the guard and wrote the files, and is gone."""
    MAIN.write_text("old\n")
    change = change_of(args)
    arm(HOST, change, DetachedAlarms(str(PROGRAMS)), pid=1, window=600)
    write_new_files(HOST, change)


def change_of(args: dict[str, Any]) -> NetworkChange:
    files = tuple(file_change(HOST, str(path), b"new\n") for path in (NEW, MAIN, OF_BRIDGE))
    live = LiveState("nic", "02:00:00:00:00:07", 1500)
    return NetworkChange("nic", "fcbr9", files, (), tuple(map(tuple, args["restore"])), live, ())


class Dying(LocalHost):
    """The host of a run that is killed after `left` more steps."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left

    def _passed(self) -> None:
        self.left -= 1
        if self.left < 0:
            os._exit(9)

    def mkdir(self, *words: Any, **options: Any) -> None:
        super().mkdir(*words, **options)
        self._passed()

    def write_file(self, *words: Any, **options: Any) -> None:
        super().write_file(*words, **options)
        self._passed()

    def run(self, *words: Any, **options: Any) -> Completed:
        done = super().run(*words, **options)
        self._passed()
        return done


def killed_while_it_saves(way: str, args: dict[str, Any]) -> dict[str, Any]:
    """A run is killed at each step until its guard is armed, and the undo follows each time."""
    MAIN.write_text("old\n")
    sh("ip link delete fcbr9")
    left, said, kills = set[str](), set[str](), 0
    while kills < 50:
        child = os.fork()
        if child == 0:
            try:
                arm(Dying(kills), change_of(args), DetachedAlarms(str(PROGRAMS)), pid=1, window=600)
            except NqrError as error:
                print(error, file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if ended == 0:
            break
        assert ended == 9, "killed, and not failed"
        kills += 1
        said.add((by_python if way == "python" else by_shell)(args))
        left |= {str(path) for path in (*ETC.rglob(".*.nqr-old"), *Path(folder.BEFORE).parent.glob("before"))}
    return {"left": sorted(left), "said": sorted(said), "kills": kills}


def killed_before_it_was_armed(args: dict[str, Any]) -> None:
    """The alarm is on, and the decision file is not there yet."""
    killed_in_the_window(args)
    os.unlink(folder.State.armed.path)


def by_python(args: dict[str, Any]) -> str:
    seen: list[str] = []

    def confirms() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if os.path.exists(folder.State.armed.path) and not os.path.exists(folder.CONFIRM):
                seen.extend(os.listdir(PROGRAMS))
                Path(folder.CONFIRM).touch()
            time.sleep(0.1)

    threading.Thread(target=confirms, daemon=True).start()
    try:
        outcome = undo.card(UndoContext(HOST, Originals(HOST, "/var/lib/originals")), args)
    except NqrError as error:
        return error.code
    return f"left: {outcome.why}" if isinstance(outcome, Kept) else f"done {' '.join(seen)}".strip()


def by_shell(args: dict[str, Any]) -> str:
    (line,) = shell.card(UndoContext(HOST, Originals(HOST, "/var/lib/originals")), args)
    done = subprocess.run(
        ["sh"], input=f"{PRELUDE}\n{line}\nexit $failed\n", capture_output=True, text=True, check=False, timeout=60
    )
    kept = [line.partition(": ")[2].rstrip(".") for line in done.stdout.splitlines() if line.startswith("Left on purpose")]
    if done.returncode:
        return f"failed: {done.stderr.strip()}"
    return f"left: {kept[0]}" if kept else "done"


def seen() -> dict[str, Any]:
    files = {
        str(path.relative_to("/var/lib")): path.read_text()
        for top in (ETC, LEASES, OF_DHCPCD)
        for path in top.rglob("*")
        if path.is_file()
    }
    card = Path("/sys/class/net/nic")
    return {
        "files": files,
        "guards": [str(path) for path in (*PROGRAMS.iterdir(), *ETC.rglob(".*.nqr-old"))],
        "alarm": watcher(HOST, folder.ALARM),
        "folder": NEW.parent.exists(),
        "bridge": os.path.exists("/sys/class/net/fcbr9"),
        "port": (card / "master").exists(),
        "addresses": sh("ip -o -4 address show dev nic | sed 's/.*inet \\([^ ]*\\).*/\\1/'").split() if card.exists() else [],
        "lifetime": "sec" in sh("ip -o -4 address show dev nic") if card.exists() else False,
        "shown": {family: sh(f"ip {family} -o address show scope global; ip {family} route show") for family in ("-4", "-6")},
        "on_bridge": sh("ip -o -4 address show dev fcbr9") if os.path.exists("/sys/class/net/fcbr9") else "",
        "routes": sh("ip route show default dev nic").strip() if card.exists() else "",
    }


main(*sys.argv[1:])
