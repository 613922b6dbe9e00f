"""Which lines are public keys. ssh-keygen made the valid ones."""

from __future__ import annotations

import base64

import pytest

from nqrust.contract.ssh_keys import shortened, wrong


def blob(*fields: bytes) -> str:
    return base64.b64encode(b"".join(len(one).to_bytes(4, "big") + one for one in fields)).decode()


ED25519 = f"ssh-ed25519 {blob(b'ssh-ed25519', b'k' * 32)}"
P256 = b"ecdsa-sha2-nistp256"


@pytest.mark.parametrize(
    "line",
    [
        ED25519,
        f"{ED25519} a comment of several words",
        f"sk-ssh-ed25519@openssh.com {blob(b'sk-ssh-ed25519@openssh.com', b'k' * 32, b'ssh:')}",
        f"ecdsa-sha2-nistp256 {blob(P256, b'nistp256', b'q' * 65)}",
        f"sk-ecdsa-sha2-nistp256@openssh.com {blob(b'sk-ecdsa-sha2-nistp256@openssh.com', b'nistp256', b'q' * 65, b'ssh:')}",
    ],
)
def test_client_accepts_ssh_keys(line: str) -> None:
    assert wrong(line) == ""


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "type that is supported"),
        ("hello", "type that is supported"),
        ("ssh-dss AAAA", "type that is supported"),
        (f"{ED25519} {'c' * 8192}", "more than 8192 characters"),
        ("ssh-ed25519", "no key"),
        ("ssh-ed25519 AAAA me", "cut short"),
        ("ssh-ed25519 A*BC me", "base64"),
        (f"ssh-ed25519 {blob(b'ssh-rsa', b'k' * 32)}", "not a key of type"),
        (f"ssh-ed25519 {blob(b'ssh-ed25519', b'k' * 31)}", "cut short"),
        (f"ssh-ed25519 {blob(b'ssh-ed25519', b'k' * 32, b'more')}", "cut short"),
        (f"ssh-rsa {blob(b'ssh-rsa', b'e', b'n' * 64)}", "fewer than 1024 bits"),
        (f"ecdsa-sha2-nistp256 {blob(P256, b'nistp384', b'q' * 65)}", "not a key of type"),
        (f'command="/bin/sh" {ED25519}', "options before"),
        (f"{ED25519}\n{ED25519}", "line break"),
        (f"{ED25519}\0", "line break"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "private key"),
    ],
)
def test_client_refuses_text_that_is_no_ssh_key(line: str, reason: str) -> None:
    assert reason in wrong(line)


def test_a_message_shows_a_key_on_one_short_line() -> None:
    assert shortened("a\nb" * 50) == ("a b" * 50)[:40] + "..."
