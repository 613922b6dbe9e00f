"""The newest version that this host has seen from each release key. A replayed list of an older release is good in all other
respects: the publisher signed it."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING

from nqrust.contract.paths import NEWEST_RELEASES
from nqrust.host.port import Host
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.release import versions

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MODE = 0o600
SCHEMA = 1


def key_id(key: Ed25519PublicKey) -> str:
    """Return the hex sha256 of the public key's 32 bytes, which names it in the record."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # slow to load, and status needs no key

    return sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()


def seen(host: Host, path: str = NEWEST_RELEASES) -> dict[str, str]:
    """Return the newest version of each key, empty without a record. Raises ReleaseError NQR-REL-035 for a damaged record:
    without it, older releases would pass."""
    if not host.exists(path):
        return {}
    try:
        data = json.loads(host.read_text(path))
    except ValueError:
        data = None
    newest = data.get("newest") if isinstance(data, dict) and data.get("schema") == SCHEMA else None
    if not isinstance(newest, dict) or not all(isinstance(one, str) and versions.parse(one) for one in newest.values()):
        raise ReleaseError(
            "NQR-REL-035",
            f"{path}, the record of the newest release that this host has seen, is damaged.",
            "Restore it from a backup, or delete it if the release to install is the newest of its publisher.",
        )
    return newest


def render(newest: dict[str, str]) -> bytes:
    """Return the content of the record."""
    return (json.dumps({"schema": SCHEMA, "newest": newest}, indent=2, sort_keys=True) + "\n").encode()
