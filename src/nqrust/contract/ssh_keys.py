"""SSH public keys, one line each: type, key, comment, as in a .pub file. sshd(8) AUTHORIZED_KEYS FILE FORMAT, RFC 4253 6.6.

Options before the type are refused: the guest decides about a key's permissions, and such a line is usually an accident.
"""

from __future__ import annotations

import base64
import binascii

TYPES = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
_FIELDS = {"ssh-ed25519": 1, "ssh-rsa": 2, "sk-ssh-ed25519@openssh.com": 2, "sk-ecdsa-sha2-nistp256@openssh.com": 3}
"""Number of fields in the key after its type; default 2."""
_SMALLEST_RSA = 1024  # bits; OpenSSH refuses smaller ones
LONGEST = 8192
"""Characters of a line. sshd reads lines of up to 16 KiB; a key of RSA with 16,384 bits takes 2,800 characters."""
CURE = "Give one line of a .pub file: its type, the key, and a comment."


def wrong(line: str) -> str:
    """Return the fault of `line` as a public key, as the end of a sentence, or "" if it is valid."""
    if len(line) > LONGEST:
        return f"has more than {LONGEST} characters"
    line = tidy(line)
    if not line.isprintable():
        return "has a line break or a control character"
    words = line.split(None, 2)
    if "PRIVATE KEY" in line:
        return "is a private key"
    if not words or words[0] not in TYPES:
        if any(word in TYPES for word in line.split()):
            return "has options before its type"
        return f"does not begin with a type that is supported ({', '.join(TYPES[:3])} ...)"
    if len(words) < 2:
        return "has a type, but no key"
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (binascii.Error, ValueError):
        return "is not valid base64"
    return _wrong_blob(words[0], blob)


def tidy(line: str) -> str:
    """Normalize the blanks of `line`: without tabs or a carriage return at its end.

    A line break inside it stays, and is refused.
    """
    return " ".join(line.strip().replace("\t", " ").replace("\xa0", " ").split(" "))


def shortened(line: str) -> str:
    """Shorten `line` for a message: enough to find it, on one line."""
    text = "".join(c if c.isprintable() else " " for c in line)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _wrong_blob(kind: str, blob: bytes) -> str:
    fields: list[bytes] = []
    rest = blob
    while rest:
        size = int.from_bytes(rest[:4], "big")
        if len(rest) < 4 or len(rest) - 4 < size:
            return "is cut short"
        fields.append(rest[4 : 4 + size])
        rest = rest[4 + size :]
    if not fields or fields[0] != kind.encode():
        return f"is not a key of type {kind}"
    if len(fields) - 1 != _FIELDS.get(kind, 2) or not all(fields):
        return "is cut short"
    if "ed25519" in kind and len(fields[1]) != 32:
        return "is cut short"
    if kind == "ssh-rsa" and int.from_bytes(fields[2], "big").bit_length() < _SMALLEST_RSA:
        return f"has fewer than {_SMALLEST_RSA} bits"
    if (
        "ecdsa" in kind
        and fields[1] != kind.removeprefix("sk-").removesuffix("@openssh.com").removeprefix("ecdsa-sha2-").encode()
    ):
        return f"is not a key of type {kind}"
    return ""
