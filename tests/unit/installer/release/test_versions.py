"""The order of versions, compared with Semantic Versioning and with the library `packaging`."""

from __future__ import annotations

from itertools import combinations

import pytest
from packaging.version import Version as Known

from nqrust.installer.release.versions import in_address, is_older, parse

SEMVER = [
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
]
"""Semantic Versioning 2.0.0, section 11."""
RELEASES = [
    "0.1", "0.2.0.dev1", "0.2.0a1", "0.2.0b2", "0.2.0rc1", "0.2.0rc10", "0.2.0", "0.2.1", "0.3.0", "0.10.0", "1", "1.0.1", "10.0",
]  # fmt: skip


@pytest.mark.parametrize("rising", [SEMVER, RELEASES], ids=["semver", "releases"])
def test_each_version_is_older_than_the_next_ones(rising: list[str]) -> None:
    for first, second in combinations(rising, 2):
        assert is_older(first, second) is True and is_older(second, first) is False, (first, second)


@pytest.mark.parametrize(("first", "second"), list(combinations([*RELEASES, "v0.3.0", "0.3.0+abc", "0.3", "1.0.0"], 2)))
def test_the_order_is_that_of_packaging(first: str, second: str) -> None:
    one, two = (Known(text.partition("+")[0]) for text in (first, second))
    assert is_older(first, second) is (one < two) and is_older(second, first) is (two < one)


@pytest.mark.parametrize("second", ["0.3.0+0a1b2c", "v0.3.0", "0.3", "0.3.0"])
def test_builds_of_one_version_are_of_one_age(second: str) -> None:
    assert is_older("0.3.0+ffffff", second) is False and is_older(second, "0.3.0+ffffff") is False


@pytest.mark.parametrize(
    "text", ["", "latest", "nightly-7", "0.3.0~rc1", "0.3.0.post1", "0..3", "0.3.0-", "0.٣.0", "9" * 5000, "1.0-" + "9" * 99]
)
def test_other_texts_have_no_place_in_the_order(text: str) -> None:
    assert parse(text) is None
    assert is_older(text, "0.3.0") is None and is_older("0.3.0", text) is None and is_older(text, text) is False


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("v0.4.2", "v0.4.2"),
        ("0.4.2", "0.4.2"),
        ("v5", "v5"),
        ("release-0.4.2", "0.4.2"),
        ("nqrust_v0.5.0-rc.1", "v0.5.0-rc.1"),
        ("0.3.0+abc", "0.3.0+abc"),
        ("0.4.2-special edition", "0.4.2-special edition"),
        ("latest", ""),
        ("stable", ""),
        ("download", ""),
    ],
)
def test_the_version_in_an_address(name: str, version: str) -> None:
    assert in_address(name) == version
