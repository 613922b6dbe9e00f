"""A change of the network on a fake host, and the answers of its programs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from tests.fakes.host import FakeHost

from nqrust.host.errors import CommandFailed
from nqrust.host.port import Command
from nqrust.installer.supervisor.alarm import Alarm
from nqrust.installer.verbs.network.guard.change import Address, LiveState, NetworkChange, Route, Rule, file_change
from nqrust.installer.verbs.network.guard.folder import State

OLD = "/etc/systemd/network/10-eth0.network"
NEW = "/etc/systemd/network/fcbr0.network"
LISTEN = "   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1 1 0 100 0 0 10 0"


def established(peer: str = "0900000A", port: str = "C001", *, local_port: str = "0016") -> str:
    """A line of /proc/net/tcp: PEER to port 22 of 10.0.0.2. The default peer is 10.0.0.9."""
    return f"   1: 0200000A:{local_port} {peer}:{port} 01 00000000:00000000 00:00000000 00000000 0 0 2 1 0 100 0 0 10 0"


@dataclass
class Alarms:
    """A supervisor that keeps an alarm in memory. `fires`: seconds after which the script has run, counted by `Site`."""

    name: str = "fake"
    calls: list[str] = field(default_factory=list)
    is_on: bool = False
    broken: bool = False
    seconds: int = 0

    def set(self, host: FakeHost, alarm: Alarm, seconds: int) -> None:
        self.calls.append("set")
        assert not host.exists(State.armed.path), "the alarm is on before the guard counts as armed"
        if self.broken:
            raise CommandFailed(("systemctl",), 1, "Unit is masked.")
        self.is_on, self.seconds = True, seconds

    def is_set(self, host: FakeHost, alarm: Alarm) -> bool:
        return self.is_on

    def go_off(self, host: FakeHost, alarm: Alarm) -> None:
        self.calls.append("go off")
        self.fire(host)

    def fire(self, host: FakeHost) -> None:
        """What the script does with the decision."""
        if host.exists(State.armed.path):
            host.rename(State.armed.path, State.restored.path)

    def clear(self, host: FakeHost, alarm: Alarm) -> None:
        self.calls.append("clear")
        self.is_on = False

    def tidy(self, alarm: Alarm) -> tuple[str, ...]:
        return ("systemctl stop the-alarm",)

    def undo_arguments(self) -> dict[str, object]:
        return {"supervisor": self.name}

    def log_hint(self, alarm: Alarm) -> str:
        return "journalctl -u the-alarm"


class Site(FakeHost):
    """A host with eth0, which the change moves to fcbr0. Its guard fires when the clock says so."""

    def __init__(self) -> None:
        super().__init__()
        self.furnish_debian12()
        self.alarms = Alarms()
        self.answers = {"10.0.0.1"}
        self.tcp = [LISTEN]
        self.at: dict[float, object] = {}
        self.started = self.monotonic()
        self.put_directory("/etc/systemd/network")
        self.put(OLD, "old\n", mode=0o640, xattrs={"user.kept": b"yes"})
        self.put("/proc/net/tcp", "")
        self.put("/proc/net/tcp6", "")
        import os

        self.put(f"/proc/{os.getpid()}/stat", f"{os.getpid()} (python 3) S " + " ".join(["0"] * 18 + ["4711", "0"]))
        self.on("ln", prefix=True)
        self.on("networkctl", "reload", changes=True)
        self.on("ip", "-json", "-4", "route", "show", "table", "all", answer=self._routes)
        self.on("ip", "-json", "-6", "route", "show", "table", "all", answer="[]")
        self.on("ip", "neigh", "del", prefix=True)
        self.on("ip", "-json", "neigh", "show", prefix=True, answer=self._neighbour)
        self.on("ip", "-json", "route", "get", prefix=True, answer=self._way)

    def change(self) -> NetworkChange:
        live = LiveState(
            "eth0", "02:00:00:00:00:01", 1500, (Address("10.0.0.2/24", "10.0.0.255"), Address("2001:db8::2/64")),
            (Route("-4", "192.0.2.0/24", scope="link"), Route("-4", "default", "10.0.0.1", metric="100", source="10.0.0.2"),
             Route("-6", "default", "fe80::1", metric="1024")),
            (Rule("-4", ("priority", "100", "from", "10.0.0.2", "table", "77")),), ("10.0.0.1",),
        )  # fmt: skip
        files = (file_change(self, OLD, b"new\n"), file_change(self, NEW, b"bridge\n", mode=0o640))
        reload = (("networkctl", "reload"),)
        return NetworkChange("eth0", "fcbr0", files, reload, reload, live, ("10.0.0.1",), (("netplan", "generate"),))

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        passed = self.monotonic() - self.started
        for moment in [moment for moment in self.at if moment <= passed]:
            self.at.pop(moment)()  # type: ignore[operator]
        if self.alarms.is_on and passed >= self.alarms.seconds:
            self.alarms.fire(self)

    def connected(self, *lines: str) -> None:
        self.put("/proc/net/tcp", "\n".join([LISTEN, *lines]))

    def _routes(self, host: FakeHost, cmd: Command) -> str:
        return json.dumps([{"dst": "default", "gateway": "10.0.0.1", "dev": "fcbr0"}])

    def _neighbour(self, host: FakeHost, cmd: Command) -> str:
        address = cmd.argv[5]
        mac = "06:4e:00:00:00:01" if address == "10.0.0.66" else "02:00:00:00:00:99"
        known = address in self.answers or address != "10.0.0.1"
        return json.dumps(
            [{"dst": address, "lladdr": mac, "state": ["REACHABLE"]}] if known else [{"dst": address, "state": ["FAILED"]}]
        )

    def _way(self, host: FakeHost, cmd: Command) -> str:
        peer = cmd.argv[4]
        device = {"10.0.0.2": "lo", "172.17.0.9": "docker0", "192.168.7.9": "eth1"}.get(peer, "fcbr0")
        return json.dumps([{"dst": peer, "dev": device}])
