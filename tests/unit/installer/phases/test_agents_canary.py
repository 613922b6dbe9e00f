"""The canary of a worker node takes an address that no VM of the host has."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from tests.fakes.host import FakeHost

from nqrust.installer.proofs.through_agent import AgentsCanary


@pytest.mark.parametrize(
    ("taken", "address"),
    [((), "10.0.0.12"), (("10.0.0.12", None), "10.0.0.11"), (("10.0.0.10", "10.0.0.11", "10.0.0.12"), "10.0.0.12")],
    ids=["the last", "the last is a VM's", "none is free"],
)
def test_the_last_free_address_is_taken(monkeypatch: pytest.MonkeyPatch, taken: tuple[str | None, ...], address: str) -> None:
    inventory = SimpleNamespace(vms=[SimpleNamespace(ip=one) for one in taken])
    monkeypatch.setattr(AgentsCanary, "_ask", lambda self, verb: inventory)
    assert AgentsCanary(FakeHost.debian12(), "http://a", "/t", "/i", ("10.0.0.10", "10.0.0.12"))._free_address() == address


def test_a_bridged_network_gives_its_own() -> None:
    assert AgentsCanary(FakeHost.debian12(), "http://a", "/t", "/i", None)._free_address() is None
