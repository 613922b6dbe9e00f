"""The clone's way out: how slirp4netns is had and started, and what the clone's card lets through."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fakes.host import FakeHost

from nqrust.host.errors import CommandFailed, HostError
from nqrust.host.port import Command
from nqrust.installer.engine.events import Event, Notice, Reporter
from nqrust.installer.rehearsal import carrier, relay
from nqrust.installer.rehearsal.spec import GATEWAY, RESOLVER
from nqrust.installer.rehearsed import Heard
from nqrust.installer.verbs.packages.apt.installing import Apt

SOURCE = Path(carrier.__file__).parents[3]
IN_A_NETWORK = """
import errno, os, socket, sys
sys.path.insert(0, {source!r})
from nqrust.host import namespaces as ns
from nqrust.installer.rehearsal import card
from nqrust.installer.rehearsal.spec import Uplink
ns.unshare(ns.CLONE_NEWNET)
device = card.open_card("up0")
card.configure(Uplink("up0", ("192.0.2.10/24", "198.51.100.1/32")), {refused!r})
for address in {asked!r}:
    probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    print(address, errno.errorcode[probe.connect_ex((address, 9))], probe.getsockname()[0])
"""


class Told(Reporter):
    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


def answers(refused: tuple[str, ...], *asked: str) -> dict[str, list[str]]:
    """How connections end in a network namespace of its own whose card nobody serves: address -> error, source."""
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
        pytest.skip("making a network namespace with a card takes root and /dev/net/tun")
    code = IN_A_NETWORK.format(source=str(SOURCE), refused=refused, asked=asked)
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return {words[0]: words[1:] for words in map(str.split, done.stdout.splitlines())}


def test_clone_cannot_reach_services_of_the_host() -> None:
    found = answers(("192.0.2.10/32", "198.51.100.1/32", "10.9.9.9/32"), "10.9.9.9", "10.9.9.8", "192.0.2.77")
    assert found["10.9.9.9"][0] == "EHOSTUNREACH"
    # Others leave through the card, with the host's own address, neighbours of the host too.
    assert found["10.9.9.8"] == found["192.0.2.77"] == ["EINPROGRESS", "192.0.2.10"]


def test_clone_connections_fail_at_once_without_an_uplink() -> None:
    found = answers(("0.0.0.0/0",), "10.9.9.8", "192.0.2.77", "192.0.2.10")
    assert found["10.9.9.8"][0] == found["192.0.2.77"][0] == "EHOSTUNREACH"
    assert found["192.0.2.10"] == ["EINPROGRESS", "192.0.2.10"], "its own address is there"


def test_clone_cannot_reach_the_host_loopback_and_accepts_no_connections() -> None:
    argv = carrier.arguments("/usr/bin/slirp4netns", "eth0", 4, 7)
    assert "--disable-host-loopback" in argv and "--api-socket" not in " ".join(argv)
    assert "--cidr=169.254.77.0/24" in argv and (GATEWAY, RESOLVER) == ("169.254.77.2", "169.254.77.3")  # slirp4netns(1)
    assert argv[-2:] == ("/proc/self/fd/4", "eth0") and "--ready-fd=7" in argv


@pytest.mark.parametrize(
    ("missing", "interrupted", "fails", "verbs"),
    [
        (False, False, "", ["install"]),
        (True, False, "", ["update", "install"]),
        (False, True, "", ["--force-confold", "install", "install"]),
        (False, False, "E: Failed to fetch: 404  Not Found", ["install", "update", "install"]),
    ],
    ids=["as it is", "no index", "cut off", "old index"],
)
def test_carrier_package_comes_from_the_distribution_archive(
    monkeypatch: pytest.MonkeyPatch, missing: bool, interrupted: bool, fails: str, verbs: list[str]
) -> None:
    monkeypatch.setattr(Apt, "index_missing", lambda *_: "there is no package index yet" if missing else None)
    monkeypatch.setattr(Apt, "interrupted", lambda *_: interrupted)
    host, ran, failures = FakeHost(), [], [fails] if fails else []

    def answer(host: FakeHost, cmd: Command) -> str:
        ran.append(cmd.argv)
        if failures:
            raise CommandFailed(cmd.argv, 100, failures.pop())
        return ""

    host.on("apt-get", prefix=True, answer=answer)
    host.on("dpkg", prefix=True, answer=answer)
    host.on("dpkg-query", prefix=True, answer="installed\tscreen\tscreen\t4.9\n")
    carrier.install(host, "ubuntu")
    assert [argv[1] for argv in ran] == verbs
    assert ran[-1][-2:] == ("--no-install-recommends", "slirp4netns")


def test_an_archive_that_cannot_be_reached_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Apt, "index_missing", lambda *_: None)
    monkeypatch.setattr(Apt, "interrupted", lambda *_: False)
    host = FakeHost()
    host.on("apt-get", prefix=True, answer=CommandFailed(("apt-get",), 100, "Temporary failure resolving"))
    with pytest.raises(HostError, match="Temporary failure resolving"):
        carrier.install(host, "debian")


def test_unknown_distribution_has_no_carrier_package() -> None:
    with pytest.raises(HostError, match="slirp4netns is not installed"):
        carrier.install(FakeHost(), "")


@pytest.mark.parametrize(
    ("said", "reason"), [(b"1", ""), (b"no room", "no room"), (b"", "slirp4netns ended")], ids=["ready", "refused", "ended"]
)
def test_carrier_wait_returns_the_failure_reason(said: bytes, reason: str) -> None:
    answer, ready = os.pipe()
    os.write(ready, said)
    os.close(ready)
    assert carrier.wait(answer) == reason


def test_a_clone_without_network_says_why_and_what_to_do() -> None:
    heard, told = Heard(), Told()
    reason = str(CommandFailed(("apt-get",), 100, "Temporary failure resolving"))
    relay.hear(json.dumps({"type": "clone_without_network", "reason": reason}), heard, told)
    (event,) = told.events
    assert isinstance(event, Notice) and (event.severity, event.code) == ("warning", "NQR-RHS-010")
    assert "Temporary failure resolving" in event.text and "slirp4netns" in event.cure
    assert heard.without_network == reason and not heard.reason, "the rehearsal goes on"
