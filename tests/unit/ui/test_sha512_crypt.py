"""Passwords as /etc/shadow holds them, against what `openssl passwd -6` makes of them."""

from __future__ import annotations

import re

import pytest

from nqrust.contract.vms import GuestUser
from nqrust.ui.sha512_crypt import hashed


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
    assert hashed(password, salt) == expected


def test_salts_are_random_and_of_full_length() -> None:
    first, second = hashed("a password"), hashed("a password")
    assert first != second
    assert re.fullmatch(r"\$6\$[./0-9A-Za-z]{16}\$[./0-9A-Za-z]{86}", first)


def test_the_interface_takes_it() -> None:
    assert GuestUser(name="ann", password_hash=hashed("pässwörd")).password_hash
