"""Parts without a database: scheduling, addresses, liveness, throttling, tickets, settings."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nqrust.contract.auth import Role
from nqrust.contract.hosts import HostNetwork, HostState
from nqrust.manager.api import gate
from nqrust.manager.core.hashing import QUEUE, Hashing
from nqrust.manager.core.liveness import host_state
from nqrust.manager.core.principal import Principal
from nqrust.manager.core.source import Source, source_of
from nqrust.manager.core.throttle import Buckets, Throttle
from nqrust.manager.core.tickets import Tickets
from nqrust.manager.errors import Busy, SettingsError
from nqrust.manager.settings import from_environment
from nqrust.manager.vms.addresses import RangeFull, next_address
from nqrust.manager.vms.schedule import Candidate, Demand, NoHost, choose
from nqrust.serving import sources

BIG = Candidate("1", "big", True, False, cpus=4, memory_mib=8192, disk_available_mib=10_000)
SMALL = Candidate("2", "small", True, False, cpus=2, memory_mib=1024, disk_available_mib=10_000)


def but(host: Candidate, **more: Any) -> Candidate:
    return Candidate(**{**host.__dict__, **more})


@pytest.mark.parametrize(
    ("hosts", "demand", "expected"),
    [
        ([SMALL, BIG], Demand(1, 256, 100), "big"),
        ([SMALL, BIG], Demand(1, 256, 100, host="small"), "small"),
        ([SMALL, but(BIG, cordoned=True)], Demand(1, 256, 100), "small"),
        ([SMALL, but(BIG, online=False)], Demand(1, 256, 100), "small"),
        ([SMALL, but(BIG, used_memory_mib=7800)], Demand(1, 256, 100), "small"),
        ([SMALL, but(BIG, disk_available_mib=50)], Demand(1, 256, 100), "small"),
        ([SMALL, but(BIG, used_vcpus=32)], Demand(1, 256, 100), "small"),
        ([but(BIG, name="b"), but(BIG, name="a")], Demand(1, 256, 100), "a"),
    ],
)
def test_scheduler_chooses_the_expected_host(hosts: list[Candidate], demand: Demand, expected: str) -> None:
    assert choose(hosts, demand, overcommit=8).name == expected


def test_absurd_numbers_of_one_host_keep_no_vm_from_the_others() -> None:
    assert choose([SMALL, but(BIG, cpus=10**400)], Demand(1, 256, 100), overcommit=8.0).name == "small"


@pytest.mark.parametrize(
    ("hosts", "demand", "later", "reason"),
    [
        ([], Demand(1, 256, 1), True, "No host has registered"),
        ([but(BIG, online=False)], Demand(1, 256, 1), True, "not online"),
        ([but(BIG, cordoned=True)], Demand(1, 256, 1), False, "cordoned"),
        ([SMALL], Demand(1, 4096, 1), False, "Not enough memory: needs 4 GiB; host small has 768 MiB free."),
        ([BIG], Demand(1, 1, 1, host="none"), False, "no host named none"),
    ],
)
def test_scheduler_explains_why_no_host_fits(hosts: list[Candidate], demand: Demand, later: bool, reason: str) -> None:
    with pytest.raises(NoHost, match=reason) as error:
        choose(hosts, demand, overcommit=8)
    assert error.value.later is later


NETWORK = HostNetwork(bridge="fcbr0", gateway="10.0.0.1", dhcp_first="10.0.0.10", dhcp_last="10.0.0.14")


@given(st.sets(st.integers(10, 14)), st.none() | st.integers(1, 20))
def test_addresses_are_in_range_free_and_found_while_there_are_any(taken: set[int], last: int | None) -> None:
    used = {f"10.0.0.{n}" for n in taken}
    after = None if last is None else f"10.0.0.{last}"
    if len(taken) == 5:
        with pytest.raises(RangeFull):
            next_address(NETWORK, used, after)
        return
    found = next_address(NETWORK, used, after)
    assert found is not None and found not in used and 10 <= int(found.rsplit(".", 1)[1]) <= 14


def test_address_pool_wraps_around() -> None:
    assert [next_address(NETWORK, set(), last) for last in (None, "10.0.0.10", "10.0.0.14")] == [
        "10.0.0.10",
        "10.0.0.11",
        "10.0.0.10",
    ]
    assert next_address(HostNetwork(mode="bridged", bridge="br0"), set(), None) is None


def test_a_silent_host_is_degraded_then_offline_but_not_because_we_were_away() -> None:
    now = datetime(2026, 5, 1, tzinfo=timezone.utc)
    long_ago = now - timedelta(days=1)

    def state(seconds: float, watching: datetime = long_ago) -> HostState:
        return host_state(now - timedelta(seconds=seconds), now, watching)

    assert [state(29), state(30), state(299), state(300)] == ["online", "degraded", "degraded", "offline"]
    assert state(3600, watching=now - timedelta(seconds=5)) is HostState.degraded


def test_a_heartbeat_from_the_future_shows_no_host_that_is_online() -> None:
    """The clock was ahead, and went back. The next heartbeat corrects it."""
    now = datetime(2026, 5, 1, tzinfo=timezone.utc)
    hour, watching = timedelta(hours=1), now - timedelta(days=1)
    assert host_state(now + timedelta(seconds=20), now, watching) is HostState.online, "the clocks of two managers"
    assert host_state(now + hour, now, watching) is HostState.degraded
    assert host_state(None, now, now + hour) is HostState.degraded
    assert host_state(now - hour, now, now + hour) is HostState.offline


def test_throttle_doubles_and_forgives_success() -> None:
    time = [100.0]
    throttle = Throttle(lambda: time[0])
    waits = []
    for _ in range(8):
        throttle.failed("ann", "192.0.2.1")
        waits.append(throttle.wait("ann", "192.0.2.1"))
    assert waits == [0, 0, 0, 0, 2, 4, 8, 16]
    assert throttle.wait("ann", "192.0.2.2") == 0
    time[0] += 16
    assert throttle.wait("ann", "192.0.2.1") == 0
    throttle.succeeded("ann", "192.0.2.1")
    throttle.failed("ann", "192.0.2.1")
    assert throttle.wait("ann", "192.0.2.1") == 0


def test_a_key_waits_a_quarter_of_an_hour_at_most_however_often_it_failed() -> None:
    throttle = Throttle(lambda: 100.0)
    for _ in range(2000):
        throttle.failed("ann", "192.0.2.1")
    assert throttle.wait("ann", "192.0.2.1") == 900


def test_tickets_are_good_once_and_for_half_a_minute() -> None:
    time = [0.0]
    tickets = Tickets(lambda: time[0])
    ann = Principal("user", "ann", Role.operator, user_id="u1", token_id="t1")
    ticket = tickets.issue("vm", ann)
    assert tickets.redeem("other") is None
    assert tickets.redeem(ticket) == ("console", "vm", ann)
    assert tickets.redeem(ticket) is None
    assert tickets.redeem(tickets.issue("vm", ann, "exec")) == ("exec", "vm", ann)
    late = tickets.issue("vm", ann)
    time[0] = 30.1
    assert tickets.redeem(late) is None


def test_no_user_takes_the_tickets_of_others() -> None:
    tickets = Tickets(lambda: 0.0)
    bob = Principal("user", "bob", Role.operator, user_id="u2", token_id="t2")
    of_bob = tickets.issue("vm", bob)
    sessions = [Principal("user", "ann", Role.operator, user_id="u1", token_id=f"s{n}") for n in range(3)]
    sessions.append(Principal("token", "token:robot", Role.operator, user_id="u1", token_id="t9"))
    of_ann = [tickets.issue("vm", sessions[n % 4]) for n in range(11_000)]
    assert tickets.redeem(of_bob) == ("console", "vm", bob)
    assert sum(tickets.redeem(ticket) is not None for ticket in of_ann) == 256
    assert tickets.redeem(of_ann[-1]) is None, "used"


URL = {"DATABASE_URL": "postgresql://u:p%40w@h:5432/n"}


def test_settings_from_the_environment(tmp_path: Any) -> None:
    settings = from_environment({**URL, "MANAGER_BIND": "[::1]:1234", "MANAGER_ALLOW_IMAGE_PATHS": "no", "MANAGER_BRIDGE": ""})
    assert (settings.bind_host, settings.bind_port, settings.allow_image_paths) == ("::1", 1234, False)
    assert settings.bridge == "fcbr0", "an empty variable counts as not set"
    assert settings.sqlalchemy_url == "postgresql+psycopg://u:p%40w@h:5432/n"
    assert "p%40w" not in repr(settings)
    file = tmp_path / "url"
    file.write_text("postgres://u@h/n\n")
    assert from_environment({"DATABASE_URL_FILE": str(file)}).sqlalchemy_url == "postgresql+psycopg://u@h/n"


def test_promised_disk_is_the_installers_setting() -> None:
    assert from_environment({**URL, "MANAGER_DISK_OVERCOMMIT": "1.5"}).disk_overcommit == 1.5
    assert from_environment(URL).disk_overcommit == 1.0


def test_retention_is_the_installers_setting() -> None:
    given = from_environment({**URL, "MANAGER_EVENTS_DAYS": "1", "MANAGER_AUDIT_DAYS": "3650", "MANAGER_OPERATIONS_DAYS": "90"})
    assert (given.events_days, given.audit_days, given.operations_days) == (1, 3650, 90)
    default = from_environment(URL)
    assert (default.events_days, default.audit_days, default.operations_days) == (30, 365, 30)


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, "DATABASE_URL"),
        ({"DATABASE_URL": "mysql://h/n"}, "DATABASE_URL"),
        ({"DATABASE_URL_FILE": "/nonexistent"}, "DATABASE_URL_FILE"),
        ({**URL, "MANAGER_BIND": "18080x"}, "MANAGER_BIND"),
        ({**URL, "MANAGER_BIND": "0.0.0.0:70000"}, "MANAGER_BIND"),
        ({**URL, "MANAGER_RECONCILER_DISABLED": "perhaps"}, "MANAGER_RECONCILER_DISABLED"),
        ({**URL, "MANAGER_IMAGE_ROOT": "images"}, "MANAGER_IMAGE_ROOT"),
        ({**URL, "MANAGER_VCPU_OVERCOMMIT": "lots"}, "MANAGER_VCPU_OVERCOMMIT"),
        ({**URL, "MANAGER_DISK_OVERCOMMIT": "all"}, "MANAGER_DISK_OVERCOMMIT"),
        ({**URL, "MANAGER_EVENTS_DAYS": "0"}, "MANAGER_EVENTS_DAYS"),
        ({**URL, "MANAGER_AUDIT_DAYS": "3651"}, "MANAGER_AUDIT_DAYS"),
        ({**URL, "MANAGER_OPERATIONS_DAYS": "1.5"}, "MANAGER_OPERATIONS_DAYS"),
        ({**URL, "MANAGER_LOG_LEVEL": "loud"}, "MANAGER_LOG_LEVEL"),
    ],
)
def test_wrong_settings_are_named_in_one_line(environment: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named) as error:
        from_environment(environment)
    assert "\n" not in str(error.value)


def test_a_bucket_refills_with_time_and_never_beyond_its_size() -> None:
    time = [0.0]
    buckets = Buckets(2, seconds=30.0, clock=lambda: time[0])
    waits = []
    for _ in range(3):
        waits.append(buckets.wait("a"))
        buckets.take("a")
    assert waits == [0, 0, 30] and buckets.wait("a") == 30 and buckets.wait("b") == 0
    time[0] = 20.0
    assert buckets.wait("a") == pytest.approx(10)
    time[0] = 6000.0
    assert buckets.wait("a") == 0
    for _ in range(2):
        buckets.take("a")
    assert buckets.wait("a") == 30


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("192.0.2.9", "192.0.2.9"),
        ("::ffff:192.0.2.9", "192.0.2.9"),
        ("2001:db8::7", "2001:db8::"),
        ("fe80::1%eth0", "fe80::"),
        ("local", "local"),
        ("127.9.9.9", "loopback"),
    ],
)
def test_what_counts_as_one_source(address: str, group: str) -> None:
    assert Source(address, address).group == group


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ({"x-nqrust-ui-key": "key", "x-nqrust-client": "198.51.100.1"}, "198.51.100.1"),
        ({"x-nqrust-ui-key": "key", "x-nqrust-client": "nonsense"}, "127.0.0.1"),
        ({"x-nqrust-ui-key": "key"}, "127.0.0.1"),
        ({"x-nqrust-ui-key": "", "x-nqrust-client": "198.51.100.1"}, "127.0.0.1"),
        ({"x-nqrust-ui-key": "other", "x-nqrust-client": "198.51.100.1"}, "127.0.0.1"),
        ({"x-forwarded-for": "198.51.100.1", "x-nqrust-client": "198.51.100.1"}, "127.0.0.1"),
    ],
)
def test_an_address_that_is_passed_on_needs_the_key_of_the_web_ui(headers: dict[str, str], address: str) -> None:
    from nqrust.contract.credentials import hash_token

    found = source_of("127.0.0.1", headers, hash_token("key"))
    assert (found.address, found.peer, found.by_ui) == (address, "127.0.0.1", address != "127.0.0.1")
    assert source_of("127.0.0.1", headers, "").address == "127.0.0.1", "without a web UI"


@pytest.mark.parametrize(("cpus", "workers"), [(None, 1), (1, 1), (2, 1), (4, 2), (8, 4), (64, 4)])
def test_few_passwords_are_hashed_at_once(cpus: int | None, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cpus)
    assert Hashing().workers == workers


async def test_a_known_user_still_gets_a_turn_when_strangers_fill_the_queue() -> None:
    hashing = Hashing(workers=1)
    async with contextlib.AsyncExitStack() as turns:
        await turns.enter_async_context(hashing.turn(known=False))
        waiting = [asyncio.create_task(turns.enter_async_context(hashing.turn(known=False))) for _ in range(QUEUE)]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await hashing.turn(known=False).__aenter__()
        known = asyncio.create_task(hashing.hash("a long password"))
        await asyncio.sleep(0)
        assert not known.done()
        for task in (*waiting, known):
            task.cancel()
        await asyncio.gather(*waiting, known, return_exceptions=True)
    assert (await hashing.hash("a long password")).startswith("scrypt$"), "every place is free again"


def test_each_user_of_this_machine_and_each_browser_is_a_stranger_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nqrust.loopback.user_of", lambda client, server: client[1] % 10)

    def sender(client: tuple[str, int], origin: Source | None = None) -> str:
        scope = {"client": client, "server": ("127.0.0.1", 18080), "state": {}}
        origin = origin or source_of(client[0], {}, "", sources.local(scope))
        return gate.sender_of({**scope, "state": {"origin": origin}})

    assert sender(("127.0.0.1", 41)) == sender(("127.0.0.9", 51)) != sender(("127.0.0.1", 42))
    assert sender(("192.0.2.1", 41)) == sender(("192.0.2.1", 42)) == "192.0.2.1"
    browser = Source("192.0.2.1", "127.0.0.1", by_ui=True)
    assert sender(("127.0.0.1", 41), browser) == "192.0.2.1"
    assert sender(("127.0.0.1", 41), Source("127.0.0.1", "127.0.0.1", by_ui=True)) == "loopback"


def test_an_agent_with_a_certificate_is_not_one_of_the_strangers_of_its_address() -> None:
    state = {"origin": Source("192.0.2.1", "192.0.2.1"), "peer_names": ("h-1.agent.nqrust.internal",)}
    scope = {"client": ("192.0.2.1", 41), "server": ("192.0.2.9", 18080), "state": state}
    assert gate.sender_of(scope) == "certificate h-1.agent.nqrust.internal"
    assert gate.sender_of({**scope, "state": {**state, "peer_names": ()}}) == "192.0.2.1"
