"""Whose program sent a request, on a kernel without sock_diag(7)."""

from __future__ import annotations

from typing import Any

import pytest

from nqrust.serving import sources


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Client ports whose user the table in /proc/net was asked for. Even ones are root's, 8 and 9 have no user any more."""
    found: list[int] = []

    def user_in_table(client: tuple[str, int], server: tuple[str, int]) -> int | None:
        found.append(client[1])
        return None if client[1] >= 8 else client[1] % 2

    monkeypatch.setattr("nqrust.loopback.user_of", lambda client, server: None)
    monkeypatch.setattr("nqrust.loopback.user_in_table", user_in_table)
    return found


def request(port: int, *headers: tuple[bytes, bytes], state: dict[str, Any] | None = None) -> dict[str, Any]:
    scope = {"client": ("127.0.0.1", port), "server": ("127.0.0.1", 18080), "headers": headers}
    return scope if state is None else {**scope, "state": state}


@pytest.mark.parametrize(("port", "roots"), [(2, True), (3, False), (8, False)])
def test_a_request_reads_the_table_once(reads: list[int], port: int, roots: bool) -> None:
    """An answer that names nobody counts, too: a program that closed its socket would be asked for again."""
    connection: dict[str, Any] = {sources.STATE: "loopback None", "peer_names": ()}
    one = request(port, state=connection.copy())
    assert [sources.is_roots(one) for _ in range(3)] == [roots] * 3 and reads == [port]
    assert sources.is_roots(request(port, state=connection.copy())) is roots and reads == [port, port]
    assert sources.is_roots({**one, "headers": ((b"via", b"1.1 proxy"),)}) is False


def test_a_request_without_state_is_answered_as_well(reads: list[int]) -> None:
    assert sources.is_roots(request(2)) and not sources.is_roots(request(3))
