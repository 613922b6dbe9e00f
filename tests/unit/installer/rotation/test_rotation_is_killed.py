"""A rotation that is killed at any record of its journal: the manager can log in all the time, and a second run finishes it."""

from __future__ import annotations

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.effects.a_bench import Bench, bench
from tests.unit.installer.engine.test_kill_chains import Killed, KillingStore
from tests.unit.installer.rotation.rotating import FakeManager

from nqrust.contract.credentials import hash_token
from nqrust.host.errors import HostError

__all__ = ["bench"]
RECORDS = 16
"""More than a rotation of the database writes."""


@pytest.fixture
def manager(bench: Bench) -> FakeManager:
    assert bench.nqr("install") == 0
    return FakeManager(bench.host)


class Killing:
    """Ends the process at a record of its journal."""

    def __init__(self, bench: Bench, store: KillingStore) -> None:
        self.bench, self.store = bench, store

    def run(self, *words: str, before: int = 0, after: int = 0) -> bool:
        """Return whether it came to its end."""
        self.store.next_process(before=before, after=after)
        try:
            assert self.bench.nqr(*words) == 0, self.bench.err
        except Killed:
            return False
        finally:
            self.store.next_process()
        return True


@pytest.fixture
def killing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Killing:
    store = KillingStore()
    store.data = bench.store.data
    bench.store = store
    return Killing(bench, store)


def whole(manager: FakeManager) -> None:
    password = manager.stored.db_password.reveal()
    assert manager.read("database-password") == password and manager.logs_in() and manager.worked == password


@pytest.mark.parametrize("when", ["before", "after"])
def test_database_can_be_used_at_every_instant(bench: Bench, manager: FakeManager, killing: Killing, when: str) -> None:
    for number in range(1, RECORDS):
        ended = killing.run("rotate", "database", **{when: number})
        assert manager.logs_in(), f"killed {when} record {number}"
        if ended:
            break
    assert ended
    whole(manager)


def test_every_change_of_the_host_leaves_the_database_usable(bench: Bench, manager: FakeManager) -> None:
    assert bench.nqr("rotate", "database") == 0
    changes = len(bench.host.mutations)
    assert changes >= 3
    for number in range(1, changes + 1):
        for after in (False, True):
            host: FakeHost = bench.host
            host.mutations.clear()
            host.fail_at(number, HostError("the power is gone"), after=after)
            bench.nqr("rotate", "database")
            assert manager.logs_in(), f"mutation {number}, after={after}"
            host.fail_at(10**6, HostError("never"))
    assert bench.nqr("rotate", "database") == 0
    whole(manager)


@pytest.mark.parametrize("when", ["before", "after"])
def test_tokens_are_whole_after_any_kill_and_a_second_run(
    bench: Bench, manager: FakeManager, killing: Killing, when: str
) -> None:
    for number in range(1, RECORDS):
        ended = killing.run("rotate", "tokens", **{when: number})
        assert bench.nqr("rotate", "tokens") == 0, f"killed {when} record {number}"
        stored = manager.stored
        assert manager.read("cli-token") == stored.cli_token.reveal()
        assert manager.known() == [hash_token(stored.cli_token.reveal())]
        if ended:
            break
    assert ended


@pytest.mark.parametrize("when", ["before", "after"])
def test_manager_and_hosts_talk_at_every_instant_of_a_new_authority(
    bench: Bench, manager: FakeManager, killing: Killing, when: str
) -> None:
    for number in range(1, 4 * RECORDS):
        ended = killing.run("rotate", "authority", **{when: number})
        assert manager.talks(), f"killed {when} record {number}"
        assert bench.nqr("rotate", "authority") == 0 and manager.talks()
        stored = manager.stored
        assert manager.trusted == (stored.authority,) == manager.followed[0] and not stored.former_authority
        if ended:
            break
    assert ended


def test_chain_of_kills_ends_with_one_new_authority(bench: Bench, manager: FakeManager, killing: Killing) -> None:
    before = manager.stored.authority
    for number in range(2, 14):
        assert not killing.run("rotate", "authority", after=1 + number % 5)
        assert manager.talks()
    assert bench.nqr("rotate", "authority") == 0
    assert manager.trusted == (manager.stored.authority,) != (before,)
