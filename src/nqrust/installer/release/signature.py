"""Ed25519 signatures of release.json (RFC 8032), detached, over the exact bytes of the file."""

from __future__ import annotations

import base64
import binascii

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from nqrust.installer.engine.errors import ReleaseError


def sign(descriptor: bytes, private_key: bytes) -> bytes:
    """The content of release.json.sig: base64 of the signature, and a newline. `private_key`: 32 raw bytes."""
    return base64.b64encode(Ed25519PrivateKey.from_private_bytes(private_key).sign(descriptor)) + b"\n"


def verify(descriptor: bytes, signature: bytes, trusted_keys: tuple[bytes, ...]) -> None:
    """Accept `descriptor` if any of `trusted_keys` (32 raw bytes each) signed it. Raises ReleaseError NQR-REL-024."""
    try:
        raw = base64.b64decode(signature.strip(), validate=True)
    except binascii.Error:
        raw = b""
    for key in trusted_keys:
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(raw, descriptor)
            return
        except (InvalidSignature, ValueError):
            continue
    raise ReleaseError(
        "NQR-REL-024",
        "The signature of release.json does not fit any trusted key.",
        "Get the release from its publisher again, or check which key you trust; do not install this copy.",
    )
