"""Whose word about a client's address counts."""

from __future__ import annotations

import os
from typing import Any

import pytest

from nqrust.serving.proxies import Proxied, last_address, may_speak_for_others
from nqrust.serving.sources import STATE, of_client, user

PERSON, PROXY = "loopback 1000", "loopback 33"


@pytest.mark.parametrize(
    ("source", "believed"),
    [
        ("loopback 0", True),
        (PROXY, True),
        ("loopback 999", True),
        (PERSON, False),
        ("loopback 61183", False),
        ("loopback 61184", True),
        ("loopback 65519", True),
        ("loopback 65534", False),
        ("loopback 1900000000", False),
        ("loopback None", False),
        ("loopback", False),
        ("192.0.2.1", False),
        ("certificate 0", False),
        ("", False),
    ],
)
def test_who_may_speak_for_others(source: str, believed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 500)
    assert may_speak_for_others(source) is believed


def test_the_servers_own_user_may_speak_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert may_speak_for_others(PERSON)
    assert user(PERSON) == 1000


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("203.0.113.9, 192.0.2.1", "192.0.2.1"),
        ("203.0.113.9,127.0.0.1", "127.0.0.1"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("192.0.2.1, unknown", ""),
        ("192.0.2.1,", ""),
        ("", ""),
    ],
)
def test_the_address_that_the_proxy_added(said: str, address: str) -> None:
    assert last_address(said) == address


async def seen(sender: str, *headers: tuple[bytes, bytes], kind: str = "http") -> dict[str, Any]:
    found: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.update(scope)

    plain = "ws" if kind == "websocket" else "http"
    scope = {"type": kind, "scheme": plain, "client": ("127.0.0.7", 41), "headers": list(headers), "state": {STATE: sender}}
    await Proxied(app)(scope, None, None)  # type: ignore[arg-type]
    return found


async def test_a_proxy_tells_the_client_and_the_scheme() -> None:
    headers = ((b"x-forwarded-for", b"203.0.113.9"), (b"x-forwarded-for", b"192.0.2.1"), (b"x-forwarded-proto", b"https"))
    told = await seen(PROXY, *headers)
    assert (told["client"], told["scheme"], of_client(told)) == (("192.0.2.1", 0), "https", "192.0.2.1")
    assert (await seen(PROXY, *headers, kind="websocket"))["scheme"] == "wss"
    assert (await seen(PROXY, (b"x-forwarded-proto", b"gopher")))["scheme"] == "http"
    assert of_client(await seen(PROXY)) == PROXY


async def test_a_person_speaks_for_nobody_else() -> None:
    told = await seen(PERSON, (b"x-forwarded-for", b"192.0.2.1"), (b"x-forwarded-proto", b"https"))
    assert (told["client"], told["scheme"], of_client(told)) == (("127.0.0.7", 41), "http", PERSON)


async def test_a_client_that_is_a_user_of_the_proxys_machine_counts_with_the_proxy() -> None:
    """The proxy added 127.0.0.1. What stands before came from that user."""
    assert of_client(await seen(PROXY, (b"x-forwarded-for", b"192.0.2.1, 127.0.0.1"))) == PROXY
