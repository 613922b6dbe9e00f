"""The check of a bundle's signature on hosts whose openssl cannot do it: every way in which it must say no."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.places import ROOT

SCRIPT = ROOT / "scripts/install/verify_signature.py"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
LIST = b"# product: nqrust-microvm\n"
SIGNED = KEY.sign(LIST)


def pem(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def code(folder: Path, key: bytes, signature: bytes, content: bytes) -> int:
    for name, data in (("key", key), ("sig", signature), ("list", content)):
        (folder / name).write_bytes(data)
    argv = ["/usr/bin/python3", "-I", SCRIPT, *(folder / name for name in ("key", "sig", "list"))]
    return subprocess.run(argv, capture_output=True, check=False).returncode


def test_good_signature(tmp_path: Path) -> None:
    assert code(tmp_path, pem(KEY), SIGNED, LIST) == 0


_CURVE = generate_private_key(SECP256R1()).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("key", "signature", "content"),
    [
        (pem(OTHER), SIGNED, LIST),
        (pem(KEY), OTHER.sign(LIST), LIST),
        (pem(KEY), SIGNED, LIST + b"\n"),
        (pem(KEY), SIGNED, b""),
        (pem(KEY), bytes([SIGNED[0] ^ 1]) + SIGNED[1:], LIST),
        (pem(KEY), SIGNED[:-1] + bytes([SIGNED[-1] ^ 0x80]), LIST),
        (pem(KEY), SIGNED[:-1], LIST),
        (pem(KEY), SIGNED + b"\0", LIST),
        (pem(KEY), b"", LIST),
        (pem(KEY), bytes(64), LIST),
        (_CURVE, SIGNED, LIST),
        (b"no key", SIGNED, LIST),
    ],
)
def test_no_other_signature_is_good(tmp_path: Path, key: bytes, signature: bytes, content: bytes) -> None:
    assert code(tmp_path, key, signature, content) != 0
