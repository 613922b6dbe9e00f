"""nqr keeps NetworkManager off the links of VMs."""

from __future__ import annotations

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.verbs.lifecycle import planned, round_trip

from nqrust.host.port import Command
from nqrust.installer.engine.step import Satisfied
from nqrust.installer.verbs.network.network_manager import FOLDER, PATH, UnmanagedLinks


@pytest.fixture
def host() -> FakeHost:
    return FakeHost.debian12()


STATES = {True: "10 (unmanaged)", False: "100 (connected (externally))"}


def nmcli(host: FakeHost, *, reads: bool) -> None:
    """nmcli(1) with its daemon, which leaves a bridge alone after it has read the configuration."""
    host.put_directory(FOLDER)
    host.put("/usr/bin/nmcli", "", mode=0o755)
    host.put("/sys/class/net/fcbr0/flags", "0x1003\n")
    read = [False]

    def reload(host: FakeHost, cmd: Command) -> str:
        read[0] = reads and "interface-name:fcbr0;interface-name:tap???????????" in host.read_text(PATH)
        return ""

    host.on("nmcli", "general", "reload", "conf", changes=True, answer=reload)
    host.on("nmcli", "-g", "GENERAL.STATE", "device", "show", "fcbr0", answer=lambda h, c: f"{STATES[read[0]]}\n")


def test_network_manager_leaves_the_bridge_alone(host: FakeHost) -> None:
    nmcli(host, reads=True)
    round_trip(host, UnmanagedLinks("fcbr0"))


def test_network_manager_is_reloaded_after_a_kill_before_the_reload(host: FakeHost) -> None:
    """Killed between the file and the reload."""
    nmcli(host, reads=False)
    step = UnmanagedLinks("fcbr0")
    step.apply(host)
    assert planned(host, step) == ("~ NetworkManager manages fcbr0",)
    nmcli(host, reads=True)
    step.apply(host)
    assert isinstance(step.inspect(host), Satisfied)


def test_stopped_network_manager_needs_only_the_file(host: FakeHost) -> None:
    host.put_directory(FOLDER)
    round_trip(host, UnmanagedLinks("fcbr0"))
