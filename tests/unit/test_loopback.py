"""Whose listener is on a loopback port. tests/live/client has other users' listeners."""

from __future__ import annotations

import os
import socket

import httpx
import pytest

from nqrust import loopback
from nqrust.contract import names
from nqrust.tls.transports import guard


def test_listener_that_vanished_after_the_connection_gets_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as vanished:
        port = vanished.getsockname()[1]
    loopback.check("127.0.0.1", port)
    with pytest.raises(loopback.Impostor, match="who listens"):
        loopback.check("127.0.0.1", port, connected=True)


def test_clients_of_other_machines_and_over_tls_are_left_alone() -> None:
    with httpx.Client(base_url="https://127.0.0.1:1") as client:
        before = client._transport._pool._network_backend  # type: ignore[attr-defined]
        guard(client)
        assert client._transport._pool._network_backend is before  # type: ignore[attr-defined]
    assert loopback.SERVICE_USER == names.SERVICE_USER


def test_kernel_and_table_name_the_same_listeners() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("0.0.0.0", 0)) as other:
        for listener, address in ((one, bytes([127, 0, 0, 1])), (other, bytes(4))):
            port = listener.getsockname()[1]
            found = [*loopback._asked(socket.AF_INET, port)]
            assert found == [*loopback._read("tcp", port)] == [(address, os.geteuid())]


@pytest.mark.parametrize(
    "host, address, local",
    [
        ("127.0.0.1", True, True),
        ("127.9.9.9", True, True),
        ("::1", True, True),
        ("[::1]", False, True),
        ("::ffff:127.0.0.1", True, True),
        ("localhost", False, True),
        ("", False, False),
        ("10.0.0.1", False, False),
        ("::", False, False),
        ("127.example", False, False),  # a name that somebody else can own
        ("127.0.0.1.example", False, False),
        ("fe80::1%eth0", False, False),
    ],
)
def test_loopback_is_known_by_its_address(host: str, address: bool, local: bool) -> None:
    assert (loopback.is_loopback(host), loopback.is_local(host)) == (address, local)
