"""A re-run restarts the services whose input changed, and no others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.installer.phases.test_sudo_rules import context

from nqrust.installer.context import Context
from nqrust.installer.phases import services
from nqrust.installer.phases.services import AGENT, DHCP, MANAGER, NETWORK, UI
from nqrust.installer.settings.model import Settings


def restarted(now: Context) -> set[str]:
    before = {unit.spec.name: unit.restart_key(context()) for unit in services.our_units(context())}
    return {unit.spec.name for unit in services.our_units(now) if before[unit.spec.name] != unit.restart_key(now)}


def newer() -> Context:
    made = context()
    return replace(made, files=replace(made.files, release=made.release.model_copy(update={"version": "9.9.9"})))


def test_the_same_settings_restart_nothing() -> None:
    assert restarted(context()) == set()


def test_a_newer_release_restarts_what_runs_its_programs() -> None:
    assert restarted(newer()) == {MANAGER, AGENT, UI}


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"network": {"dhcp_first": "10.0.0.101"}}, {DHCP, AGENT}),
        ({"ui": {"bind": "127.0.0.1:4000"}}, {UI}),
    ],
)
def test_a_changed_setting_restarts_the_services_that_read_it(settings: dict[str, Any], names: set[str]) -> None:
    made = context()
    whole = made.settings.model_dump(mode="python")
    for section, values in settings.items():
        whole[section] = {**whole[section], **values}
    assert restarted(replace(made, settings=Settings.model_validate(whole))) == names


def test_the_files_that_a_service_reads_are_watched() -> None:
    made = context()
    reads = {unit.spec.name: unit.reads for unit in services.our_units(made)}
    assert list(reads) == [NETWORK, DHCP, MANAGER, AGENT, UI]
    assert reads[DHCP] == (made.layout.dnsmasq_conf,)
    assert reads[MANAGER] == (made.layout.manager_env, made.layout.current_link)
    assert all(unit.spec.env_file in unit.reads for unit in services.our_units(made) if unit.spec.env_file)
