"""The installation that the benchmarks make up is one that this version can read."""

from __future__ import annotations

from benchmarks import population
from tests.live.manager.conftest import Running

from nqrust.client import calls
from nqrust.contract.agent import Inventory

HOSTS, VMS = 2, 20


async def test_population_of_the_benchmarks_fits_the_schema(manager: Running, tables_url: str) -> None:
    population.seed(tables_url, [f"http://192.0.2.{number}:19090" for number in range(1, HOSTS + 1)], VMS)
    found = await manager.admin.send(calls.list_vms())
    assert found.total == VMS
    assert {vm.restart_policy.value for vm in found.items} == {"on-failure"}


def test_inventories_of_the_benchmarks_are_those_of_an_agent() -> None:
    found = Inventory.model_validate_json(population.inventory(0, HOSTS, VMS))
    assert len(found.vms) == VMS // HOSTS
