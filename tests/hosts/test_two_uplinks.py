"""NAT on a host with two network cards, whose default route moves from one to the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.hosts import main_job, product
from tests.hosts.bases import LivedIn, machine_named
from tests.hosts.machine import Machine, TestNetwork
from tests.hosts.machine.outside import outside
from tests.hosts.main_job import Job
from tests.hosts.product import document, eventually, fetch, nqr

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(3000)]

FAR = "198.51.100.77"
"""A server in no network of the host: only the default route leads there."""


@dataclass
class Two:
    """A host with a card in each of two networks; FAR answers in both."""

    job: Job
    second: TestNetwork

    @property
    def host(self) -> Machine:
        return self.job.host

    @property
    def other_address(self) -> str:
        return self.second.address(99)

    def plug(self) -> None:
        """Put the second card in, which a boot of a test host does not bring."""
        host, outer = self.host, f"vc-{self.host.name}"
        assert host.leader is not None
        outside("ip", "link", "add", outer, "type", "veth", "peer", "name", "host1", "netns", str(host.leader.pid))
        outside("ip", "link", "set", outer, "master", self.second.bridge, "up")
        host.run(f"ip address add {self.other_address}/24 dev host1 && ip link set host1 up")

    def leave_by(self, card: str) -> None:
        """Move the default route, as an administrator or a failing router does."""
        gateway = {"host0": self.host.network.gateway, "host1": self.second.gateway}[card]
        self.host.run(f"ip route replace default via {gateway} dev {card}")

    def reaches_far(self, seen_as: str) -> None:
        main_job.reaches_outside(self.host, self.job.vm, server=FAR, seen_as=seen_as)


@pytest.fixture(scope="module")
def two(tell: Callable[[str], None]) -> Iterator[Two]:
    kind = machine_named("least")
    with (
        TestNetwork() as first,
        TestNetwork() as second,
        Machine(network=first, packages=kind.tree_packages("systemd")) as host,
    ):
        outside("ip", "address", "add", f"{FAR}/32", "dev", first.bridge)
        made = Two(Job(LivedIn(kind, host, 0), host.fingerprint(), ""), second)
        made.plug()
        made.job = main_job.begin(made.job.lived, ("--non-interactive",))
        yield made
        tell(f"two cards, {made.job.line()}")


def test_nat_follows_a_default_route_that_moves(two: Two) -> None:
    host = two.host
    two.job.vm = product.create_vm(host, "web1")
    product.guest_reaches(host, two.job.vm)
    two.reaches_far(host.address)
    two.leave_by("host1")
    two.reaches_far(two.other_address)
    assert nqr(host, "verify", timeout=400).code == 0
    assert "(0 changed" in nqr(host, "install", "--non-interactive", timeout=600).stdout, "no step depends on the route"
    two.leave_by("host0")
    two.reaches_far(host.address)


def test_vm_reaches_both_networks_and_lives_on_without_a_default_route(two: Two) -> None:
    host = two.host
    main_job.reaches_outside(host, two.job.vm)
    main_job.reaches_outside(host, two.job.vm, server=two.second.gateway, seen_as=two.other_address)
    host.run("ip route del default")
    assert nqr(host, "verify", timeout=400).code == 0
    product.guest_reaches(host, two.job.vm)
    main_job.reaches_outside(host, two.job.vm)
    two.leave_by("host1")
    two.reaches_far(two.other_address)
    host.run("ip link del host1")
    two.leave_by("host0")
    two.reaches_far(host.address)


def test_a_reboot_with_another_uplink_changes_no_rule(two: Two) -> None:
    host = two.host
    rules = host.run("iptables-save -t nat | grep MASQUERADE").stdout
    host.reboot()
    two.plug()
    two.leave_by("host1")
    eventually("the manager answers", lambda: fetch(host, "http://127.0.0.1:18080/health")[0] == 200, 120)
    eventually("the VM runs again", lambda: document(host, "vm", "show", "web1")["state"] == "running", 180)
    product.guest_reaches(host, two.job.vm)
    two.reaches_far(two.other_address)
    assert host.run("iptables-save -t nat | grep MASQUERADE").stdout == rules
    two.leave_by("host0")


def test_uninstall_with_two_cards_leaves_nothing(two: Two) -> None:
    main_job.uninstall_keeps_data(two.job)
    main_job.purge_later_leaves_nothing(two.job)
