"""The only reader of PEM certificates (RFC 7468). Comparing a certificate and trusting it work on the same bytes.

OpenSSL reads more kinds of blocks as certificates: `X509 CERTIFICATE` and `TRUSTED CERTIFICATE`. A text from elsewhere must
never reach it, or it would trust more than the fingerprint covers.
"""

from __future__ import annotations

import base64
import binascii
import re
import ssl
from collections.abc import Iterable

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_BLANKS = str.maketrans("", "", " \t\r\n")


class PemError(ValueError):
    """A certificate in the text cannot be read."""


def blocks(text: str) -> tuple[bytes, ...]:
    """Return the certificates in a text (DER), in their order. Everything else in it is left out. Raises PemError."""
    try:
        return tuple(base64.b64decode(found.translate(_BLANKS), validate=True) for found in _BLOCK.findall(text))
    except (binascii.Error, ValueError) as error:  # headers, blocks in a block, data after the padding
        raise PemError("a certificate cannot be read") from error


def encode(certificates: Iterable[bytes]) -> str:
    """Return these certificates as PEM, without any other text."""
    return "".join(ssl.DER_cert_to_PEM_cert(one) for one in certificates)
