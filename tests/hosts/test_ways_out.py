"""NAT on hosts without a way out for IPv4: without a default route, and with IPv6 alone.

Such a host gets its packages from a proxy that it reaches directly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.hosts import main_job, product
from tests.hosts.bases import LivedIn, machine_named
from tests.hosts.machine import Machine, TestNetwork
from tests.hosts.machine.outside import outside
from tests.hosts.main_job import Job
from tests.hosts.product import document, eventually, fetch, nqr
from tests.hosts.proxying import proxy

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(3000)]

ALONE = """
mkdir -p /etc/systemd/system/test-host-network.service.d
cat >/etc/systemd/system/test-host-network.service.d/alone.conf <<END
[Service]
ExecStart=
ExecStart=/bin/sh -c 'echo 0 >/proc/sys/net/ipv4/ip_forward; ip link set lo up; $COMMANDS'
END
"""
"""The card's configuration at every boot."""


@dataclass(frozen=True)
class Way:
    """`card`: what configures it, with {address}, {gateway} and {number} of the network. `proxy`: its address, likewise."""

    name: str
    card: str
    proxy: str


WAYS = (
    Way("no-default-route", "ip address replace {address}/24 dev host0; ip link set host0 up", "10.77.{number}.1"),
    Way(
        "ipv6-only",
        "ip link set host0 up; ip -6 address replace fd77:{number}::2/64 dev host0 nodad; ip -6 route replace default via fd77:{number}::1",
        "fd77:{number}::1",
    ),
)


@pytest.fixture(scope="module", params=WAYS, ids=[way.name for way in WAYS])
def job(request: pytest.FixtureRequest, tell: Callable[[str], None]) -> Iterator[Job]:
    way: Way = request.param
    kind = machine_named("least")
    with ExitStack() as stack:
        network = stack.enter_context(TestNetwork(outward=False))
        number = network.number
        outside("ip", "-6", "address", "add", f"fd77:{number}::1/64", "dev", network.bridge, "nodad")
        made = stack.enter_context(proxy(way.proxy.format(number=number)))
        host = stack.enter_context(Machine(network=network, packages=kind.tree_packages("systemd")))
        card = way.card.format(address=host.address, gateway=network.gateway, number=number)
        host.run(f"set -e\n{ALONE}", env={"COMMANDS": card})
        host.snapshot()
        installed = main_job.begin(
            LivedIn(kind, host, 0), ("--non-interactive",), env={"http_proxy": made.url, "https_proxy": made.url}
        )
        yield installed
        tell(f"{way.name}, {installed.line()}")


def test_host_without_a_way_out_for_ipv4_is_installed(job: Job) -> None:
    assert job.host.run("ip -4 route show default").stdout == ""
    assert job.result is not None and "FAILED" not in job.result.stdout and "unproven" not in job.result.stdout
    assert nqr(job.host, "verify", timeout=400).code == 0


def test_vm_reaches_its_gateway_and_the_networks_of_the_host(job: Job) -> None:
    job.vm = product.create_vm(job.host, "web1")
    product.guest_reaches(job.host, job.vm)
    reaches_neighbours(job)


def reaches_neighbours(job: Job) -> None:
    if job.host.run("ip -4 -o address show dev host0").stdout:
        main_job.reaches_outside(job.host, job.vm)


def test_the_same_command_again_changes_nothing(job: Job) -> None:
    main_job.again_changes_nothing(job)


def test_a_reboot_brings_all_of_it_back(job: Job) -> None:
    host = job.host
    host.reboot()
    eventually("the manager answers", lambda: fetch(host, "http://127.0.0.1:18080/health")[0] == 200, 120)
    eventually("the VM runs again", lambda: document(host, "vm", "show", "web1")["state"] == "running", 180)
    product.guest_reaches(host, job.vm)
    reaches_neighbours(job)


def test_uninstall_and_purge_leave_nothing(job: Job) -> None:
    main_job.uninstall_keeps_data(job)
    main_job.purge_later_leaves_nothing(job)
