"""How secrets are stored: passwords as scrypt (RFC 7914), tokens as SHA-256 of a 256-bit random value.

A token has full entropy, so a fast hash is safe and keeps requests cheap. A password needs a memory-hard hash. The formats
include their parameters, so that these can change without a migration.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

_N, _R, _P = 2**14, 8, 1
TOKEN_PREFIX = "nqr_"


def hash_password(password: str, *, salt: bytes | None = None) -> str:
    """Return `scrypt$N$r$p$salt$hash` (base64) for `password`, with a new 16-byte salt unless one is given."""
    salt = secrets.token_bytes(16) if salt is None else salt
    digest = hashlib.scrypt(password.encode(), salt=salt, n=_N, r=_R, p=_P, dklen=32)
    return f"scrypt${_N}${_R}${_P}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def verify_password(password: str, stored: str) -> bool:
    """Return whether `password` matches `stored`; False for an unknown format. Constant-time comparison."""
    try:
        scheme, n, r, p, salt, digest = stored.split("$")
        if scheme != "scrypt":
            return False
        expected = base64.b64decode(digest, validate=True)
        actual = hashlib.scrypt(
            password.encode(),
            salt=base64.b64decode(salt, validate=True),
            n=int(n),
            r=int(r),
            p=int(p),
            dklen=len(expected),
        )
    except (ValueError, TypeError):
        return False
    return hmac.compare_digest(actual, expected)


def new_token() -> str:
    """Return a new bearer token: `nqr_` and 43 URL-safe characters (256 bits)."""
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """Return the hex SHA-256 of a token, for storage and lookup."""
    return hashlib.sha256(token.encode()).hexdigest()


def ui_key(storage_secret: str) -> str:
    """Return the key with which the web UI proves itself to the manager. It does not reveal the secret it is derived from."""
    return hmac.new(storage_secret.encode(), b"nqrust web UI to manager", hashlib.sha256).hexdigest()
