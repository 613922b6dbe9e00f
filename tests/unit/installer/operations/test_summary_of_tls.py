"""Where other machines find the platform, and what they compare: the last lines of an install."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_rendered_files import RELEASE, SECRETS

from nqrust.host.facts.model import Link, Network, Route
from nqrust.installer.context import Context, ReleaseFiles
from nqrust.installer.operations.summary import elsewhere
from nqrust.installer.release.interpreter import Interpreter
from nqrust.installer.reporting import wording
from nqrust.installer.request import Summary
from nqrust.installer.settings.model import Settings

NETWORK = Network(
    links=(Link("eth0", "", True, "", addresses=("fe80::1/64", "192.0.2.9/24")), Link("br", "bridge", True, "", addresses=("10.0.0.1/24",))),
    routes=(Route("default", "eth0", "192.0.2.1"),),
)  # fmt: skip


def found(network: Network = NETWORK, form: str = "bundled", **settings: Any) -> dict[str, str]:
    return elsewhere(
        Context(
            settings=Settings.model_validate(settings),
            facts=fit(network=network),
            secrets=SECRETS,
            files=ReleaseFiles(RELEASE.model_copy(update={"form": form}), "/var/cache/nqrust-microvm/releases/1.2.3"),
            python=Interpreter("/usr/bin/python3.11", "3.11.2", "/usr/bin/python3.11"),
        )
    )


def test_services_on_all_addresses_are_found_at_the_uplinks() -> None:
    assert found() == {"ui": "https://192.0.2.9:3000", "manager": "https://192.0.2.9:18080"}


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"ui": {"bind": "127.0.0.1:3000"}}, {"manager": "https://192.0.2.9:18080"}),
        ({"ui": {"bind": "10.1.1.1:3000"}, "manager": {"bind": "127.0.0.1:1"}}, {"ui": "https://10.1.1.1:3000"}),
        ({"mode": "agent", "agent": {"manager_base": "https://m1:18080"}}, {}),
        ({"mode": "minimal"}, {"manager": "https://192.0.2.9:18080"}),
    ],
)
def test_only_what_other_machines_reach_is_named(settings: dict[str, Any], wanted: dict[str, str]) -> None:
    assert found(**settings) == wanted


def test_nothing_is_named_without_an_address_or_without_tls() -> None:
    assert found(Network()) == {} and found(form="upstream") == {}


def test_people_see_addresses_and_fingerprint() -> None:
    rows = dict(wording.facts("install", Summary("ok", 0, elsewhere=found(), authority="ab" * 32)))
    assert rows["Elsewhere"] == "https://192.0.2.9:3000, https://192.0.2.9:18080"
    assert rows["Certificate"] == f"of the authority {'ab' * 32} (SHA-256)"
