"""The fingerprint from before the first change, and uninstall's report about it."""

from __future__ import annotations

import pytest
from tests.fakes.host import FakeHost
from tests.fakes.journal import MemoryJournalStore

from nqrust.contract import paths
from nqrust.installer import fingerprint
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.journal import Journal
from nqrust.installer.fingerprint.model import Fingerprint
from nqrust.installer.operations import proof_of_clean
from nqrust.installer.release import bootstrap_record


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, object]]:
    """Content of the host's fingerprint; tests change it."""
    sections: dict[str, dict[str, object]] = {"files": {"/etc/hosts": ["file"]}, "users": {"root": ["0"]}}
    monkeypatch.setattr(fingerprint, "take", lambda host: Fingerprint(1.0, {name: dict(rows) for name, rows in sections.items()}))
    return sections


@pytest.fixture
def host() -> FakeHost:
    return FakeHost.debian12()


def told(host: FakeHost) -> tuple[str, ...]:
    return proof_of_clean.tell(host, NullReporter())


def test_installer_keeps_the_fingerprint_for_root_only(host: FakeHost, seen: dict[str, dict[str, object]]) -> None:
    proof_of_clean.remember(host)
    stat, folder = host.stat(paths.FINGERPRINT), host.stat(paths.STATE_DIR)
    assert stat is not None and stat.mode == 0o600
    assert folder is not None and folder.mode == 0o700
    assert proof_of_clean.kept(host) is not None


def test_uninstall_reports_a_clean_host(host: FakeHost, seen: dict[str, dict[str, object]]) -> None:
    proof_of_clean.remember(host)
    seen["files"][paths.STATE_DIR] = ["directory"]
    seen["files"][f"{paths.CACHE_DIR}/bootstrap/x"] = ["file"]
    assert told(host) == ("This host is back to its state before the install: nothing differs from its fingerprint.",)


def test_uninstall_names_each_difference(host: FakeHost, seen: dict[str, dict[str, object]]) -> None:
    proof_of_clean.remember(host)
    seen["users"]["ann"] = ["1000"]
    del seen["files"]["/etc/hosts"]
    lines = told(host)
    assert lines[0].startswith("2 things differ") and any("ann" in line for line in lines[1:])
    assert any(line.startswith("- /etc/hosts") for line in lines[1:])


def test_uninstall_without_a_kept_fingerprint_claims_nothing(host: FakeHost, seen: dict[str, dict[str, object]]) -> None:
    assert told(host) == ()
    host.put_directory(paths.STATE_DIR)
    host.put(paths.FINGERPRINT, "garbage")
    assert told(host) == ()


def test_cache_at_another_path_is_no_difference(host: FakeHost, seen: dict[str, dict[str, object]]) -> None:
    """It existed before the first change, and is removed last."""
    host.put("/srv/moved/bootstrap.json", "{}")
    host.put("/srv/used/bootstrap.json", "{}")
    host.put(bootstrap_record.ELSEWHERE, "made /srv/moved\nused /srv/used\n")
    without = dict(seen["files"], **{"/srv/used": ["directory"]})
    seen["files"].update(
        {"/srv/moved": ["directory"], "/srv/moved/a": ["file"], "/srv/used": ["directory"], "/srv/used/a": ["file"]}
    )
    proof_of_clean.remember(host)
    seen["files"]["/srv/moved/b"] = ["file"]
    assert told(host) == ("This host is back to its state before the install: nothing differs from its fingerprint.",)
    before = proof_of_clean.kept(host)
    assert before is not None
    assert proof_of_clean.differences_later(host, before, Fingerprint(2.0, {**seen, "files": without})) == []


def test_later_check_allows_a_removed_bootstrap_cache_but_not_a_new_one(host: FakeHost) -> None:
    bare, bootstrap = {"/var/cache": ["directory"]}, {"/var/cache": ["directory"], paths.CACHE_DIR: ["directory"]}
    seen, gone = Fingerprint(1.0, {"folders": dict(bootstrap)}), Fingerprint(2.0, {"folders": dict(bare)})
    assert proof_of_clean.differences_later(host, seen, gone) == []
    assert [one.key for one in proof_of_clean.differences_later(host, gone, seen)] == [paths.CACHE_DIR]
    assert [one.key for one in proof_of_clean.differences_later(host, seen, Fingerprint(2.0, {"folders": {}}))] == ["/var/cache"]


@pytest.mark.parametrize("forwards", [False, True])
def test_forwarding_that_others_use_is_no_remainder(host: FakeHost, seen: dict[str, dict[str, object]], forwards: bool) -> None:
    with_it = dict.fromkeys(("net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding", "net.ipv4.conf.eth0/5.forwarding"), "1")
    seen["sysctls"] = {**dict.fromkeys(with_it, "0"), "net.ipv4.conf.all.accept_redirects": "1", "vm.swappiness": "60"}
    proof_of_clean.remember(host)
    before = proof_of_clean.kept(host)
    assert before is not None
    if forwards:
        host.put("/etc/sysctl.d/k8s.conf", "net.ipv4.ip_forward = 1\n")
    seen["sysctls"].update({**with_it, "net.ipv4.conf.all.accept_redirects": "0"})
    lines = proof_of_clean.tell(host, NullReporter(), forwards=forwards)
    assert any("net.ipv4" in line for line in lines) is not forwards
    later = proof_of_clean.differences_later(host, before, Fingerprint(2.0, dict(seen)))
    assert bool(later) is not forwards, "by then, only the rules and settings tell"
    seen["sysctls"]["vm.swappiness"] = "10"
    lines = proof_of_clean.tell(host, NullReporter(), forwards=forwards)
    assert any("vm.swappiness" in line for line in lines), "the rest is compared"


def test_the_journal_tells_that_forwarding_was_left_on(host: FakeHost) -> None:
    """By the end of an uninstall, iptables and nft may have gone."""
    journal = Journal(MemoryJournalStore(), host.now)
    journal.append("kept", "run", entry=1, why="edited", where="/etc/x")
    assert not proof_of_clean.kept_forwarding(journal)
    journal.append("kept", "run", entry=2, why="others forward", where="/proc/sys/net/ipv4/ip_forward")
    assert proof_of_clean.kept_forwarding(journal)
