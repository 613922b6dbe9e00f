"""`nqr vm create --user`: an account in the guest. A password hash comes from a file, never from the command line."""

from __future__ import annotations

import os
from typing import Any

from nqrust.installer.engine.errors import UsageError


def accounts(name: str | None, keys: list[str], hash_file: str | None) -> list[dict[str, Any]]:
    """Return the API's list of users: empty, or the named one."""
    if name is None:
        if hash_file:
            raise UsageError("NQR-USE-003", "--password-hash-file needs --user.", "Name the account with --user.")
        return []
    if not keys and not hash_file:
        raise UsageError(
            "NQR-USE-003", f"--user {name} needs a key or a password to sign in.", "Add --ssh-key or --password-hash-file."
        )
    return [{"name": name, "ssh_keys": keys, "password_hash": _read(hash_file) if hash_file else None}]


def _read(path: str) -> str:
    try:
        with open(os.path.expanduser(path), encoding="ascii") as file:
            return file.read(4096).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "NQR-USE-003",
            f"--password-hash-file “{path}” cannot be read.",
            "Make one with: openssl passwd -6 > FILE",
        ) from error
