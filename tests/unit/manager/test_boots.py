"""Whether two machines report as one host, from their boot ids and times."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from nqrust.manager.core.boots import ALONE, QUIET, Boots, stays

NOW = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)
LONG_AGO = NOW - timedelta(days=1)
SECOND = timedelta(seconds=1)


def test_only_a_replaced_boot_id_returns() -> None:
    known = Boots().replaced("boot-1", "boot-2", NOW)
    assert [known.returned("boot-2", one) for one in ("boot-1", "boot-2", "boot-3")] == [True, False, False]
    back = known.replaced("boot-2", "boot-1", NOW)
    assert back.earlier == ["boot-2"], "the machine that was chosen"


def test_few_boot_ids_are_kept() -> None:
    known = Boots()
    for number in range(100):
        known = known.replaced(f"boot-{number}", f"boot-{number + 1}", NOW)
    assert known.earlier == [f"boot-{number}" for number in range(84, 100)]


@pytest.mark.parametrize(
    ("seen_at", "since", "waits"),
    [
        (NOW - QUIET, LONG_AGO, False),
        (NOW - QUIET + SECOND, LONG_AGO, True),
        (LONG_AGO, NOW - QUIET + SECOND, True),  # silence counts only while the manager runs
        (LONG_AGO, NOW - QUIET, False),
        (None, NOW, False),
    ],
)
def test_a_new_boot_waits_for_the_silence_of_the_former_one(seen_at: datetime | None, since: datetime, waits: bool) -> None:
    assert Boots().replaced("boot-1", "boot-2", seen_at).waits(NOW, since) is waits


@pytest.mark.parametrize(
    ("twin_at", "registered_at", "since", "conflicts"),
    [
        (NOW - 2 * ALONE, None, LONG_AGO, True),
        (NOW - 2 * ALONE, NOW - 3 * ALONE, LONG_AGO, True),
        (NOW - 2 * ALONE, NOW - ALONE, LONG_AGO, False),
        (NOW - 2 * ALONE, NOW, LONG_AGO, False),
        (NOW - ALONE + SECOND, NOW, LONG_AGO, True),
        (NOW - 2 * ALONE, NOW - ALONE, NOW - SECOND, True),  # the manager was down
        (None, NOW, LONG_AGO, False),
    ],
)
def test_a_conflict_ends_with_an_agents_start_and_the_silence_of_the_other_machine(
    twin_at: datetime | None, registered_at: datetime | None, since: datetime, conflicts: bool
) -> None:
    assert Boots(twin_at=twin_at, registered_at=registered_at).conflicts(NOW, since) is conflicts


def test_only_loopback_addresses_stay_on_one_machine() -> None:
    here, there = "http://127.0.0.1:19090", "https://192.0.2.7:19090"
    assert [stays(*pair) for pair in ((here, here), (here, there), (there, here), (there, there))] == [True, False, False, False]
