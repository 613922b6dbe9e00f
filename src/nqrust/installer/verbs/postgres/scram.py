"""SCRAM-SHA-256 verifiers as PostgreSQL stores them (RFC 5802, RFC 7677, src/common/scram-common.c).

The server takes a finished verifier in place of a password, so the password itself never reaches its log.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import stringprep
import unicodedata

ITERATIONS = 4096
_FORM = re.compile(r"SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")


def verifier(password: str, salt: bytes | None = None, iterations: int = ITERATIONS) -> str:
    """Return `SCRAM-SHA-256$4096:<salt>$<StoredKey>:<ServerKey>`, base64 parts, with a fresh salt by default."""
    salt = os.urandom(16) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", prepared(password).encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${iterations}:{_b64(salt)}${_b64(stored)}:{_b64(server)}"


def is_one(stored: str) -> bool:
    """Return whether a value of pg_authid.rolpassword is a SCRAM verifier."""
    return _FORM.fullmatch(stored) is not None


def fits(stored: str, user: str, password: str) -> bool:
    """Return whether a value of pg_authid.rolpassword matches the password (SCRAM or the older md5)."""
    match = _FORM.fullmatch(stored)
    if match:
        again = verifier(password, base64.b64decode(match[2]), int(match[1]))
        return hmac.compare_digest(again, stored)
    if stored.startswith("md5"):
        digest = hashlib.md5((password + user).encode(), usedforsecurity=False).hexdigest()
        return hmac.compare_digest(stored, "md5" + digest)
    return False


def prepared(password: str) -> str:
    """Apply SASLprep (RFC 4013). Returns a prohibited password unchanged, like PostgreSQL."""
    if password.isascii():
        return password
    mapped = "".join(" " if stringprep.in_table_c12(char) else char for char in password if not stringprep.in_table_b1(char))
    normal = unicodedata.normalize("NFKC", mapped)
    prohibited = (
        stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3, stringprep.in_table_c4,
        stringprep.in_table_c5, stringprep.in_table_c6, stringprep.in_table_c7, stringprep.in_table_c8,
        stringprep.in_table_c9, stringprep.in_table_a1,
    )  # fmt: skip
    if not normal or any(test(char) for char in normal for test in prohibited):
        return password
    return normal


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
