"""Time left of downloads."""

from __future__ import annotations

from nqrust.ui.remaining import Remaining


def test_time_left_follows_the_bytes_seen_so_far() -> None:
    now = 100.0
    remaining = Remaining(lambda: now)
    assert remaining.seconds("debian", 0, 400) is None
    now = 101.0
    assert remaining.seconds("debian", 50, 400) is None, "too early to tell"
    now = 110.0
    assert remaining.seconds("debian", 100, 400) == 30
    assert remaining.seconds("debian", 400, 400) is None
    now = 120.0
    assert remaining.seconds("debian", 10, 400) is None, "it began again"
    assert remaining.seconds("debian", 10, 80) is None, "another layer"


def test_a_download_that_ended_is_forgotten() -> None:
    now = 0.0
    remaining = Remaining(lambda: now)
    remaining.seconds("debian", 0, 400)
    remaining.keep(set())
    now = 10.0
    assert remaining.seconds("debian", 100, 400) is None
