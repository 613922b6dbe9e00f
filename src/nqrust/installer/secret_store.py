"""Secrets of an installation: generated once, kept in one root-only file, unchanged by re-runs.

A plan generates candidates in memory and writes nothing. The step that stores the secrets is the first to use them. So a run
interrupted right after it finds the same secrets again.
"""

from __future__ import annotations

import json
import secrets
import string

from nqrust.contract import credentials, paths
from nqrust.host.errors import PathMissing
from nqrust.host.port import Host
from nqrust.host.secret import Secret
from nqrust.installer.context import Secrets
from nqrust.installer.engine.errors import JournalError

PASSWORD_LENGTH = 32
AUTHORITY = "NQRust-MicroVM certificate authority"
_ALPHABET = string.ascii_letters + string.digits


def password() -> str:
    """Return 32 letters and digits (190 bits), safe without escapes in URLs, shells and env files."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(PASSWORD_LENGTH))


def generate() -> Secrets:
    """Return new secrets."""
    certificate, key = new_authority()
    return Secrets(
        db_password=Secret(password()),
        admin_password=Secret(password()),
        admin_password_salt=secrets.token_hex(16),
        cli_token=Secret(credentials.new_token()),
        join_token=Secret(credentials.new_token()),
        ui_storage_secret=Secret(secrets.token_urlsafe(32)),
        authority=certificate,
        authority_key=key,
    )


def new_authority() -> tuple[str, Secret]:
    """Return a new certificate authority: its certificate and its key."""
    from nqrust.tls import authority  # slow to import, and rarely needed

    made = authority.new_authority(AUTHORITY)
    return made.certificate, Secret(made.key)


def load(host: Host, path: str = paths.SECRETS_JSON) -> Secrets | None:
    """Return the stored secrets, or None. Raises JournalError NQR-CFG-010 if the file exists but is damaged."""
    try:
        raw = json.loads(host.read_text(path))
        # An installation of version 0.1 has none yet.
        certificate, key = (raw["authority"], Secret(raw["authority_key"])) if "authority" in raw else new_authority()
        return Secrets(
            db_password=Secret(raw["db_password"]),
            admin_password=Secret(raw["admin_password"]),
            admin_password_salt=raw["admin_password_salt"],
            cli_token=Secret(raw["cli_token"]),
            join_token=Secret(raw["join_token"]),
            ui_storage_secret=Secret(raw["ui_storage_secret"]),
            authority=certificate,
            authority_key=key,
            next_authority=raw.get("next_authority", ""),
            next_authority_key=Secret(raw.get("next_authority_key", "")),
            former_authority=raw.get("former_authority", ""),
            known_hash=raw.get("admin_password_hash", ""),
        )
    except PathMissing:
        return None
    except (ValueError, KeyError, TypeError):
        raise JournalError(
            "NQR-CFG-010",
            f"{path} is damaged, so nqr cannot read the secrets of this installation.",
            "Restore it from a backup, or uninstall with --purge-data --drop-database and install again.",
        ) from None


def render(values: Secrets) -> Secret:
    """Return the content of the file."""
    return Secret(
        json.dumps(
            {
                "version": 1,
                "db_password": values.db_password.reveal(),
                "admin_password": values.admin_password.reveal(),
                "admin_password_salt": values.admin_password_salt,
                "admin_password_hash": values.admin_password_hash,
                "cli_token": values.cli_token.reveal(),
                "join_token": values.join_token.reveal(),
                "ui_storage_secret": values.ui_storage_secret.reveal(),
                "authority": values.authority,
                "authority_key": values.authority_key.reveal(),
                **_rotating(values),
            },
            indent=2,
        )
        + "\n"
    )


def _rotating(values: Secrets) -> dict[str, str]:
    """Return the stage of a rotation of the authority; nothing between two."""
    stage = {
        "next_authority": values.next_authority,
        "next_authority_key": values.next_authority_key.reveal(),
        "former_authority": values.former_authority,
    }
    return {name: value for name, value in stage.items() if value}
