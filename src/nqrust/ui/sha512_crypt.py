"""Passwords as /etc/shadow holds them: SHA-512 crypt, `$6$`, after U. Drepper's "Unix crypt using SHA-256 and SHA-512".

Python 3.13 has no `crypt` module any more, and a password that was typed must not leave this server unhashed.
"""

from __future__ import annotations

import hashlib
import secrets

_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ROUNDS = 5000
_TURNS = 21


def hashed(password: str, salt: str = "") -> str:
    """`$6$SALT$…` of a password (any text). `salt`: up to 16 of the characters ./0-9A-Za-z; a random one when empty."""
    salt = salt[:16] or "".join(secrets.choice(_ALPHABET) for _ in range(16))
    key, seed = password.encode(), salt.encode()
    other = hashlib.sha512(key + seed + key).digest()
    start = hashlib.sha512(key + seed + _stretch(other, len(key)))
    length = len(key)
    while length:
        start.update(other if length & 1 else key)
        length >>= 1
    digest = start.digest()
    keys = _stretch(hashlib.sha512(key * len(key)).digest(), len(key))
    seeds = _stretch(hashlib.sha512(seed * (16 + digest[0])).digest(), len(seed))
    for number in range(_ROUNDS):
        odd = number & 1
        turn = hashlib.sha512(keys if odd else digest)
        if number % 3:
            turn.update(seeds)
        if number % 7:
            turn.update(keys)
        turn.update(digest if odd else keys)
        digest = turn.digest()
    return f"$6${salt}${_encoded(digest)}"


def _stretch(block: bytes, length: int) -> bytes:
    return (block * (length // len(block) + 1))[:length]


def _encoded(digest: bytes) -> str:
    """Base 64 of its own order: bytes are taken in threes from the three thirds, which change places each time."""
    text = ""
    first, second, third = 0, _TURNS, 2 * _TURNS
    for _ in range(_TURNS):
        text += _letters(digest[first] << 16 | digest[second] << 8 | digest[third], 4)
        first, second, third = second + 1, third + 1, first + 1
    return text + _letters(digest[63], 2)


def _letters(value: int, count: int) -> str:
    return "".join(_ALPHABET[value >> 6 * at & 63] for at in range(count))
