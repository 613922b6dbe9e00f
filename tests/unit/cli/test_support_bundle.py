"""The bundle helps its reader and contains no secret."""

from __future__ import annotations

import pytest

from nqrust.cli.support.bundle import mask


@pytest.mark.parametrize(
    ("text", "kept", "gone"),
    [
        (
            "DATABASE_URL=postgresql://nexus:s3cretpw@localhost:5432/nexus",
            "nexus:********@localhost",
            "s3cretpw",
        ),
        ("UI_STORAGE_SECRET=abcdef", "UI_STORAGE_SECRET=********", "abcdef"),
        ("  password: hunter2", "  password: ********", "hunter2"),
        ('{"sha256": "00ff", "name": "cli"}', '"name": "cli"', "00ff"),
        ("AGENT_JOIN_TOKEN_FILE=/etc/x/join-token", "AGENT_JOIN_TOKEN_FILE=/etc/x/join-token", "********"),
        ("MANAGER_BIND=0.0.0.0:18080", "MANAGER_BIND=0.0.0.0:18080", "********"),
        (
            "a log line with nqr_longsecretvalue in it",
            "a log line with ******** in it",
            "nqr_longsecretvalue",
        ),
    ],
)
def test_secrets_are_masked_and_the_rest_stays(text: str, kept: str, gone: str) -> None:
    shown = mask(text, frozenset({"nqr_longsecretvalue"}))
    assert kept in shown and gone not in shown
