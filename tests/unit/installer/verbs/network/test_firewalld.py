"""The VM bridge gets a zone of firewalld, without the loss of anybody's settings."""

from __future__ import annotations

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.verbs.lifecycle import applied, planned, reverted, round_trip

from nqrust.host.errors import CommandFailed
from nqrust.host.port import Command, Completed
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import Conflict, Satisfied
from nqrust.installer.engine.verb import Kept, Reverted
from nqrust.installer.verbs.firewall.firewalld import POLICIES, ZONES, FirewalldZone

STEP = FirewalldZone("fcbr0", (19091,), dns=True)
PUBLIC = "public (default, active)\n  target: default\n  interfaces: eth0\n  services: ssh\n  rich rules: \n\n"
POLICY = "allow-host-ipv6 (active)\n  priority: -15000\n"
ZONE_FILE, POLICY_FILE = f"{ZONES}/nqrust-vms.xml", f"{POLICIES}/nqrust-vms-out.xml"


@pytest.fixture
def host() -> FakeHost:
    made = FakeHost.debian12()
    made.put_directory(ZONES)
    made.put_directory(POLICIES)
    return made


def running(host: FakeHost, *, services: str = "ssh", bound: str = "") -> None:
    """firewalld, which takes its files at a reload. `services`: of the zone public, at run time."""
    host.put("/usr/bin/firewall-cmd", "", mode=0o755)
    host.memory["zone"], host.memory["services"] = bound, services

    def answer(host: FakeHost, cmd: Command) -> Completed | str | CommandFailed:
        words = cmd.argv[1:]
        if words == ("--reload",):
            there = host.exists(ZONE_FILE)
            host.memory["zone"], host.memory["services"] = "nqrust-vms" if there else "", "ssh"
            return ""
        if words[0].startswith("--get-zone-of-interface"):
            return host.memory["zone"] + "\n" if host.memory["zone"] else Completed(cmd.argv, 2, "", "no zone")
        if words[-1].startswith("--remove-interface"):
            host.memory["zone"] = ""
            return ""
        if words[-1] == "--list-all-zones":
            saved = "--permanent" in words
            now = PUBLIC.replace("services: ssh", f"services: {host.memory['services']}")
            return PUBLIC.replace(" (default, active)", "").replace("eth0", "") if saved else now
        return POLICY if words[-1] == "--list-all-policies" else ""

    host.on("firewall-cmd", prefix=True, answer=answer)


def test_bridge_gets_a_zone_that_uninstall_removes(host: FakeHost) -> None:
    running(host)
    assert "+ fcbr0 in the zone nqrust-vms of firewalld" in planned(host, STEP)
    round_trip(host, STEP)


def test_zone_accepts_only_what_guests_may_send_to_the_host(host: FakeHost) -> None:
    running(host)
    applied(host, STEP)
    zone = host.read_text(ZONE_FILE)
    assert '<zone target="DROP">' in zone and '<interface name="fcbr0"/>' in zone
    assert zone.count("<service ") == 2 and zone.count("<port ") == 1 and '<port port="19091" protocol="tcp"/>' in zone
    assert '<egress-zone name="ANY"/>' in host.read_text(POLICY_FILE)


def test_isolated_network_gets_no_policy_and_no_dns(host: FakeHost) -> None:
    running(host)
    applied(host, FirewalldZone("fcbr0", (19091,), outside=False))
    assert not host.exists(POLICY_FILE) and "dns" not in host.read_text(ZONE_FILE)


def test_a_reload_that_would_drop_settings_is_refused(host: FakeHost) -> None:
    running(host, services="ssh https")
    found = STEP.inspect(host)
    assert isinstance(found, Conflict) and found.code == "NQR-NET-112" and "zone public" in found.why
    assert "--runtime-to-permanent" in found.cure


def test_uninstall_keeps_settings_that_a_reload_would_drop(host: FakeHost) -> None:
    running(host)
    _, records = applied(host, STEP)
    host.memory["services"] = "ssh https"
    outcomes = reverted(host, records)
    assert isinstance(outcomes[-1], Kept) and host.memory["services"] == "ssh https"
    assert host.memory["zone"] == "" and not host.exists(ZONE_FILE) and not host.exists(POLICY_FILE)


def test_firewalld_is_reloaded_after_a_kill_before_the_reload(host: FakeHost) -> None:
    running(host)
    STEP.apply(host)
    host.memory["zone"] = ""
    assert planned(host, STEP) == ("+ fcbr0 in the zone nqrust-vms of firewalld",)
    STEP.apply(host)
    assert isinstance(STEP.inspect(host), Satisfied)


def test_bridge_in_a_zone_of_the_administrator_stays_there(host: FakeHost) -> None:
    running(host, bound="trusted")
    found = STEP.inspect(host)
    assert isinstance(found, Satisfied) and "trusted" in found.note


def test_stopped_firewalld_needs_only_the_files(host: FakeHost) -> None:
    _, records = applied(host, STEP)
    assert isinstance(reverted(host, records)[-1], Reverted)
    assert not host.exists(ZONE_FILE) and not host.exists(POLICY_FILE)


def test_configuration_that_firewalld_does_not_take_is_told(host: FakeHost) -> None:
    running(host)
    failed = CommandFailed(("firewall-cmd", "--check-config"), 111, "", "INVALID_ZONE: office")
    host.on("firewall-cmd", "--check-config", answer=failed)
    with pytest.raises(StepFailed) as caught:
        STEP.apply(host)
    assert caught.value.code == "NQR-NET-113" and "INVALID_ZONE: office" in caught.value.what
