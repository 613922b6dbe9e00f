"""Who else forwards packets on this host: nqr turned forwarding on, and others came to use it."""

from __future__ import annotations

import pytest
from tests.fakes.host import FakeHost
from tests.signs_of_forwarding import LINKS, OWN, RULES, SETTINGS
from tests.unit.installer.verbs.lifecycle import ORIGINALS, applied, reverted

from nqrust.host.port import Command
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.engine.verb import Forecast, Kept, Reverted, UndoContext
from nqrust.installer.verbs.kernel import forecast, forwarding
from nqrust.installer.verbs.kernel.forwarding import FILE, FORWARDING
from nqrust.installer.verbs.kernel.sysctl import Sysctl, forwards_for_others

MASQUERADE = "-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE"


@pytest.fixture
def host() -> FakeHost:
    host = FakeHost.debian12()
    host.put(FILE, "0\n")
    for name in LINKS:
        host.put(f"/sys/class/net/{name}/ifalias", "nqrust-microvm\n" if name == "fcbr0" else "\n")
    host.on("tee", prefix=True, changes=True, answer=lambda host, cmd: host.put(cmd.argv[1], cmd.input))
    listed(host)
    return host


def listed(host: FakeHost, iptables: str = "", nft: str = "") -> None:
    host.on("iptables-save", answer=iptables)
    host.on("nft", "list", "ruleset", answer=nft)


def nat(*rules: str) -> str:
    return "\n".join(["*nat", ":POSTROUTING ACCEPT [0:0]", *rules, "COMMIT", ""])


@pytest.mark.parametrize("name", RULES)
def test_a_rule_of_others_tells_that_they_forward(host: FakeHost, name: str) -> None:
    iptables, nft, found = RULES[name]
    listed(host, iptables, nft)
    assert forwarding.signs(host) == found


@pytest.mark.parametrize(("path", "content", "found"), SETTINGS)
def test_a_setting_of_others_tells_that_they_forward(host: FakeHost, path: str, content: str, found: bool) -> None:
    host.put(path, content)
    assert forwarding.signs(host) == ((path,) if found else ())


def test_a_host_without_the_programs_has_no_rules(host: FakeHost) -> None:
    host.uninstall("iptables-save")
    host.uninstall("nft")
    assert forwarding.signs(host) == ()


def test_the_older_interface_of_the_kernel_is_asked_if_it_is_in_use(host: FakeHost) -> None:
    host.put("/proc/net/ip_tables_names", "nat\n")
    host.on("iptables-legacy-save", answer=nat(MASQUERADE))
    assert forwarding.signs(host) == (MASQUERADE,)


def test_forwarding_stays_on_under_others_that_came_after_nqr(host: FakeHost) -> None:
    _, records = applied(host, Sysctl(FORWARDING, "1"))
    listed(host, nat(MASQUERADE))
    assert forwards_for_others(host, records)
    told = forecast.sysctl(UndoContext(host, Originals(host, ORIGINALS)), records[0].args)
    (outcome,) = reverted(host, records)
    assert isinstance(outcome, Kept) and isinstance(told, Forecast) and told.stays == (outcome.why,)
    assert MASQUERADE in outcome.why and f"echo 0 >{FILE}" in outcome.why
    assert host.read_text(FILE) == "1\n"


def test_forwarding_goes_off_with_nobody_else(host: FakeHost) -> None:
    _, records = applied(host, Sysctl(FORWARDING, "1"))
    listed(host, *OWN)
    assert not forwards_for_others(host, records)
    assert forecast.sysctl(UndoContext(host, Originals(host, ORIGINALS)), records[0].args) is None
    assert reverted(host, records) == [Reverted()] and host.read_text(FILE) == "0\n"


def test_rules_from_when_forwarding_was_off_tell_nothing(host: FakeHost) -> None:
    """As those of a VPN client that is ready to route and does not."""
    listed(host, nat(MASQUERADE))
    _, records = applied(host, Sysctl(FORWARDING, "1"))
    assert not forwards_for_others(host, records)
    listed(host, nat(MASQUERADE, "-A POSTROUTING -s 10.8.0.0/24 -j MASQUERADE"))
    assert forwards_for_others(host, records)
    listed(host, nat(MASQUERADE))
    assert reverted(host, records) == [Reverted()] and host.read_text(FILE) == "0\n"


def test_a_record_of_an_earlier_version_has_no_rules(host: FakeHost) -> None:
    host.put(FILE, "1\n")
    old = Undo("sysctl", {"key": FORWARDING, "prior": "0", "ours": "1"})
    listed(host, nat(MASQUERADE))
    assert isinstance(reverted(host, [old])[0], Kept)


def test_a_host_that_nqr_did_not_turn_on_is_not_looked_at(host: FakeHost) -> None:
    def never(host: FakeHost, cmd: Command) -> str:
        raise AssertionError(cmd.argv)

    host.on("iptables-save", answer=never)
    assert not forwards_for_others(host, [Undo("sysctl", {"key": "vm.x", "prior": "0", "ours": "1"})])
