"""Ed25519 signatures (RFC 8032) of a release's list of checksums: detached, over the exact bytes of the file.

A publisher creates them with openssl-pkeyutl(1):

    openssl genpkey -algorithm ed25519 -out key.pem && openssl pkey -in key.pem -pubout -out key.pub
    openssl pkeyutl -sign -rawin -inkey key.pem -in checksums.txt -out checksums.txt.sig
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from nqrust.host.errors import HostError
from nqrust.host.port import Host
from nqrust.installer.engine.errors import ReleaseError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ENDING = ".sig"
_SIZE = 64  # bytes, RFC 8032, 5.1.6


def read_key(host: Host, path: str) -> Ed25519PublicKey:
    """Return the public key in a PEM file (RFC 8410). Raises ReleaseError NQR-REL-026."""
    from cryptography.exceptions import UnsupportedAlgorithm  # slow to load, and status needs no key
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(host.read_bytes(path))
    except (HostError, ValueError, UnsupportedAlgorithm) as error:
        why = str(error).rstrip(".") if isinstance(error, HostError) else "it holds no PEM public key"
    else:
        if isinstance(key, Ed25519PublicKey):
            return key
        why = "its key is not an Ed25519 key"
    raise ReleaseError(
        "NQR-REL-026",
        f"The release key {path} cannot be used: {why}.",
        "Give the publisher's Ed25519 public key to --release-key, in the format of `openssl pkey -pubout`.",
    )


def verify(signed: bytes, signature: bytes, key: Ed25519PublicKey) -> None:
    """Check `signature` (64 bytes, or their base64). Raises ReleaseError NQR-REL-024 if `key` did not sign `signed`."""
    from cryptography.exceptions import InvalidSignature

    try:
        raw = signature if len(signature) == _SIZE else base64.b64decode(signature.strip(), validate=True)
        key.verify(raw, signed)
    except (InvalidSignature, binascii.Error):
        raise ReleaseError(
            "NQR-REL-024",
            "The release is not signed by the key that you trust.",
            "Do not install this copy: get the release from its publisher again, or check which key is theirs.",
        ) from None
