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
    assert not loopback.is_local("10.0.0.5")
    assert loopback.SERVICE_USER == names.SERVICE_USER


def test_kernel_and_table_name_the_same_listeners() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("0.0.0.0", 0)) as other:
        for listener, address in ((one, bytes([127, 0, 0, 1])), (other, bytes(4))):
            port = listener.getsockname()[1]
            found = [*loopback._asked(socket.AF_INET, port)]
            assert found == [*loopback._read("tcp", port)] == [(address, os.geteuid())]
