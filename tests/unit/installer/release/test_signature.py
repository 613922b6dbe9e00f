"""Signatures of release.json."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.release import signature


def pair() -> tuple[bytes, bytes]:
    key = Ed25519PrivateKey.generate()
    raw, public = serialization.Encoding.Raw, serialization.PublicFormat.Raw
    private = key.private_bytes(raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
    return private, key.public_key().public_bytes(raw, public)


def test_a_trusted_signature_is_accepted() -> None:
    private, public = pair()
    signature.verify(b"{}", signature.sign(b"{}", private), (pair()[1], public))


@pytest.mark.parametrize("change", ["text", "signature", "key", "no keys", "garbage", "empty"])
def test_anything_else_is_refused(change: str) -> None:
    private, public = pair()
    text, signed, keys = b"{}", signature.sign(b"{}", private), (public,)
    if change == "text":
        text = b"{ }"
    elif change == "signature":
        signed = signature.sign(b"[]", private)
    elif change == "key":
        keys = (pair()[1],)
    elif change == "no keys":
        keys = ()
    elif change == "garbage":
        signed = b"\xff not base64"
    else:
        signed = b""
    with pytest.raises(ReleaseError) as failure:
        signature.verify(text, signed, keys)
    assert failure.value.code == "NQR-REL-024"
