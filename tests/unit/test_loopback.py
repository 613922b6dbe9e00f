"""Whose listener is on a loopback port. tests/live/client has other users' listeners."""

from __future__ import annotations

import os
import socket
from types import SimpleNamespace

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


def test_a_person_is_no_service_and_postgres_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    services, people = (0, 33, 999, 60_578, 61_184, 65_534, 65_535), (1000, 54_321, 60_513, 65_536, 100_999)
    assert [user for user in (*services, *people) if loopback.is_person(user)] == list(people)
    monkeypatch.setattr("pwd.getpwuid", lambda user: SimpleNamespace(pw_name="postgres" if user == 1001 else "anna"))
    assert (loopback.is_person(1000), loopback.is_person(1001)) == (True, False)


@pytest.mark.parametrize("family, address", [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_kernel_names_the_user_of_a_connection(family: int, address: str) -> None:
    with (
        socket.create_server((address, 0), family=family) as listener,
        socket.create_connection(listener.getsockname()[:2]) as client,
    ):
        accepted, _ = listener.accept()
        with accepted:
            near, far = client.getsockname()[:2], accepted.getsockname()[:2]
            assert loopback.user_of(near, far) == loopback.user_in_table(near, far) == os.geteuid()
            assert loopback.user_of((address, 1), far) is None and loopback.user_of(("a name", 1), far) is None


@pytest.mark.parametrize("family, address", [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_program_that_has_closed_its_socket_is_not_taken_for_root(family: int, address: str) -> None:
    with socket.create_server((address, 0), family=family) as listener:
        client = socket.create_connection(listener.getsockname()[:2])
        near = client.getsockname()[:2]
        client.sendall(b"POST / HTTP/1.1\r\n")
        client.close()
        accepted, _ = listener.accept()
        with accepted:
            assert loopback.user_of(near, accepted.getsockname()[:2]) is None
            assert loopback.user_in_table(near, accepted.getsockname()[:2]) is None
