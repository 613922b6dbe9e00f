"""Numbers, times and paths for people."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nqrust.contract.vms import VmState
from nqrust.ui import format as fmt

NOW = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0 MiB"), (256, "256 MiB"), (1536, "1.5 GiB"), (1024, "1 GiB"), (102400, "100 GiB"), (3 * 1024 * 1024, "3 TiB")],
)
def test_memory_size_is_formatted(value: int, said: str) -> None:
    assert fmt.mib(value) == said


@pytest.mark.parametrize(("value", "said"), [(0, "0 B"), (1023, "1023 B"), (33554432, "32 MiB"), (1 << 40, "1 TiB")])
def test_byte_size_is_formatted(value: int, said: str) -> None:
    assert fmt.size(value) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(-5, "0 s"), (45, "45 s"), (200, "3 min"), (7500, "2 h 5 min"), (7200, "2 h"), (90000, "1 d 1 h")]
)
def test_duration_is_formatted(seconds: float, said: str) -> None:
    assert fmt.duration(seconds) == said


@pytest.mark.parametrize(("seconds", "said"), [(1, "just now"), (30, "30 s ago"), (7500, "2 h ago"), (90000, "1 d ago")])
def test_age_is_formatted(seconds: float, said: str) -> None:
    at = NOW - timedelta(seconds=seconds)
    assert fmt.ago(at, NOW) == said == fmt.ago(at.replace(tzinfo=None), NOW)


def test_missing_time_is_shown_as_a_dash() -> None:
    assert fmt.ago(None) == "–"


def test_clock_is_utc() -> None:
    assert fmt.clock(NOW.astimezone(timezone(timedelta(hours=2)))) == "2026-01-31 12:00:00 UTC"


def test_every_vm_state_has_a_colour_of_its_family() -> None:
    assert {state.value: fmt.tone(state.value) for state in VmState} == {
        "pending": "busy",
        "starting": "busy",
        "running": "good",
        "stopping": "busy",
        "stopped": "calm",
        "paused": "warn",
        "failed": "bad",
        "unknown": "warn",
        "deleting": "busy",
    }


def test_names_that_are_free() -> None:
    assert fmt.free_name(set()) == "vm-1"
    assert fmt.free_name({"vm-1", "vm-2", "vm-4"}) == "vm-3"


@pytest.mark.parametrize("target", [None, "", "x", "//evil", "/\\evil", "https://evil", "/sign-in", "/a\nb", "/a\\b"])
def test_unsafe_sign_in_target_becomes_the_start_page(target: str | None) -> None:
    assert fmt.safe_path(target) == "/"


def test_safe_sign_in_target_is_kept() -> None:
    assert fmt.safe_path("/vms/web1") == "/vms/web1"


@given(st.text())
def test_a_target_is_always_a_path_here(target: str) -> None:
    found = fmt.safe_path(target)
    assert found.startswith("/") and not found.startswith("//") and "\\" not in found


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_share_is_between_zero_and_one(part: float, whole: float) -> None:
    assert 0.0 <= fmt.share(part, whole) <= 1.0


@pytest.mark.parametrize(
    ("written", "size"),
    [("512", 512), (" 512 MiB ", 512), ("2G", 2048), ("1.5 GiB", 1536), ("1,5 gb", 1536), ("2 TiB", 2 * 1024 * 1024)],
)
def test_sizes_as_people_write_them(written: str, size: int) -> None:
    assert fmt.to_mib(written) == size


@pytest.mark.parametrize("written", ["", "two", "-1", "1 KiB", "1 GiB more", "1..5"])
def test_invalid_size_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="such as 512 MiB"):
        fmt.to_mib(written)


@given(st.integers(min_value=1, max_value=99 * 1024))
def test_whole_sizes_that_are_shown_can_be_written_back(size: int) -> None:
    assert abs(fmt.to_mib(fmt.mib(size)) - size) <= max(52, size * 0.05)


@pytest.mark.parametrize(("percent", "said"), [(100, "1 CPU"), (250, "2.5 CPUs"), (50, "0.5 CPUs")])
def test_limits_of_processors(percent: int, said: str) -> None:
    assert fmt.share_of_cpus(percent) == said
