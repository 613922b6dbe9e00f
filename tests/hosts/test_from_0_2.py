"""An installation of version 0.2.0 becomes this one, host by host, while VMs run: at no moment are old and new apart."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.hosts import product
from tests.hosts.machine import Fingerprint, Machine, TestNetwork
from tests.hosts.product import document, eventually, fetch, nqr
from tests.hosts.releases import OLD, commit_of, program_of
from tests.hosts.sniffing import Sniffer, is_tls

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(2400)]


@dataclass
class Pair:
    manager: Machine
    agent: Machine
    network: TestNetwork
    before: tuple[Fingerprint, Fingerprint]
    old: dict[str, Any] = field(default_factory=dict)
    vms: dict[str, dict[str, Any]] = field(default_factory=dict)

    def hosts(self) -> dict[str, dict[str, Any]]:
        return {host["name"]: host for host in document(self.manager, "host", "ls")["items"]}

    def vms_run_on(self) -> None:
        for name, vm in self.vms.items():
            now = document(self.manager, "vm", "show", name)
            assert (now["state"], now["boot_id"]) == ("running", vm["boot_id"]), name


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    assert shutil.which("git")
    commit = commit_of("0.2.0")
    with TestNetwork() as network, Machine(network=network) as manager, Machine(network=network) as agent:
        for host in (manager, agent):
            product.clone(host)
            host.clone_commit(commit, OLD)
        made = Pair(manager, agent, network, (manager.fingerprint(), agent.fingerprint()))
        product.bootstrap(manager, "--mode", "production", "--non-interactive", clone=OLD)
        agent.write("/run/join-token", nqr(manager, "host", "token").stdout.strip() + "\n", mode=0o600)
        joins = ("--manager-url", f"http://{manager.address}:18080", "--join-token-file", "/run/join-token")
        product.bootstrap(agent, "--mode", "agent", *joins, "--non-interactive", clone=OLD)
        made.old = {"status": document(manager, "status"), "nqr": program_of(manager)}
        made.vms["here"] = product.create_vm(manager, "here")
        nqr(manager, "host", "cordon", manager.name)
        made.vms["there"] = product.create_vm(manager, "there")
        nqr(manager, "host", "uncordon", manager.name)
        assert (made.vms["here"]["host"], made.vms["there"]["host"]) == (manager.name, agent.name)
        yield made


def test_new_manager_works_with_an_old_agent(pair: Pair) -> None:
    product.bootstrap(pair.manager, "--non-interactive")
    eventually("both hosts are online", lambda: {one["state"] for one in pair.hosts().values()} == {"online"})
    assert pair.hosts()[pair.agent.name]["url"].startswith("http://"), "it has no certificate yet"
    pair.vms_run_on()
    product.console_prompt(pair.manager, "there")
    nqr(pair.manager, "vm", "restart", "there", "--wait", timeout=400)
    pair.vms["there"] = eventually(
        "it reports",
        lambda: (
            (vm := document(pair.manager, "vm", "show", "there"))["boot_id"] not in (None, pair.vms["there"]["boot_id"]) and vm
        ),
        120,
    )


def test_a_rollback_of_the_manager_gives_its_old_release_and_nqr_back(pair: Pair) -> None:
    manager, former = pair.manager, pair.old["status"]
    nqr(manager, "rollback", "--non-interactive", timeout=900)
    assert program_of(manager) == pair.old["nqr"]
    status = document(manager, "status")
    assert (status["version"], status["drift"]) == (former["version"], former["drift"])
    pair.vms_run_on()
    nqr(manager, "install", "--ui-bind", "0.0.0.0:18081", "--non-interactive", timeout=900)
    assert document(manager, "status")["version"] == former["version"], "the setting came without the upgrade"
    product.bootstrap(manager, "--non-interactive")
    eventually("both hosts are online", lambda: {one["state"] for one in pair.hosts().values()} == {"online"})
    asked = manager.run(["sh", "-c", "ls -d /opt/nqrust-microvm/installer/*"]).stdout.split()
    assert len([path for path in asked if "-" in path.rpartition("/")[2]]) == 2, "one environment and one release from before"
    pair.vms_run_on()


def test_old_agent_becomes_a_new_one_and_goes_over_to_tls(pair: Pair) -> None:
    product.bootstrap(pair.agent, "--non-interactive")
    eventually("it goes over", lambda: pair.hosts()[pair.agent.name]["url"].startswith("https://"), 60)
    assert pair.hosts()[pair.agent.name]["state"] == "online"
    pair.vms_run_on()
    with Sniffer(pair.network.bridge) as sniffer:
        product.console_prompt(pair.manager, "there")
        eventually("heartbeats", lambda: sniffer.to(18080), 30)
    flows = [data for port in (18080, 19090) for _, data in sniffer.to(port)]
    assert flows and all(is_tls(data) for data in flows)
    assert fetch(pair.manager, f"http://{pair.agent.address}:19090/agent/v1/health")[0] == 426


def test_the_same_commands_again_change_nothing(pair: Pair) -> None:
    for host in (pair.manager, pair.agent):
        assert "(0 changed" in product.bootstrap(host, "--non-interactive").stdout
    pair.vms_run_on()


def test_uninstall_restores_both_hosts(pair: Pair) -> None:
    for name in pair.vms:
        nqr(pair.manager, "vm", "rm", "--force", name)
    for host, before in zip((pair.agent, pair.manager), reversed(pair.before), strict=True):
        nqr(host, "uninstall", "--purge-data", "--drop-database", "--non-interactive", timeout=900)
        assert "\n".join(before.diff(host.fingerprint())) == ""
