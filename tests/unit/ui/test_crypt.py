"""Passwords in the form of /etc/shadow, compared with `openssl passwd -6`."""

from __future__ import annotations

import re

import pytest

from nqrust.contract.vms import GuestUser
from nqrust.ui.fields import Wrong, crypt


@pytest.mark.parametrize(
    ("password", "salt", "expected"),
    [
        (
            "Hello world!",
            "saltstring",
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
        ),
        (
            "x",
            "0123456789abcdef",
            "$6$0123456789abcdef$8YztVyzwDEH96nI5J4SMvvvaVH43cm6MjQyfl3gZsAa8rZMsHQVTiLQraFpug5a6xlaOJbzt.7jq8UBJs4F7M1",
        ),
        (
            "y" * 64,
            "0123456789abcdef",
            "$6$0123456789abcdef$g6Iz8Vb/2D9LkzQswEGlZ2kS6mijT/AQ2jrH0lqKF6FKdixJMM3.DAvmrLe21EYmqeOjQ5vPbVPEQFGanniOv.",
        ),
        (
            "pässwörd äöüß that is longer than one block of the hash, sixty-four bytes",
            "0123456789abcdef",
            "$6$0123456789abcdef$E/qG7gwBtscS/hzynFLb.feSTitG7WNPJiv3XYuqOF3Jkw/Tx6wB1MXkIX0NIiRddUj1bRlATkUnGZrHql/Va.",
        ),
    ],
)
def test_known_hashes(password: str, salt: str, expected: str) -> None:
    assert crypt(password, salt) == expected


def test_salts_are_random_and_of_full_length() -> None:
    first, second = crypt("a password"), crypt("a password")
    assert first != second
    assert re.fullmatch(r"\$6\$[./0-9A-Za-z]{16}\$[./0-9A-Za-z]{86}", first)


def test_api_accepts_the_password_hash() -> None:
    assert GuestUser(name="ann", password_hash=crypt("pässwörd")).password_hash


@pytest.mark.parametrize("password", ["a\0b", "x" * 257, "x" * 4097])
def test_a_password_that_no_guest_could_check_or_that_takes_long_is_refused(password: str) -> None:
    with pytest.raises(Wrong, match="at most 256 characters"):
        crypt(password)
