"""The main job in isolated mode: VMs run and report, and reach nothing beyond their host."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.hosts import main_job, product, warm
from tests.hosts.bases import lived_in, machine_named
from tests.hosts.main_job import Job
from tests.hosts.product import document, eventually, fetch, nqr

pytestmark = pytest.mark.timeout(2400)

INSTALL = ("--network-mode", "isolated", "--non-interactive")


RUNS = [(machine_named(name), init) for name in ("least", "trixie", "bullseye") for init in machine_named(name).inits]


@pytest.fixture(
    scope="module",
    params=[pytest.param(run, id=f"{run[0].name}-{run[1]}", marks=[pytest.mark.matrix] * (run != RUNS[0])) for run in RUNS],
)
def installed(request: pytest.FixtureRequest, tell: Callable[[str], None]) -> Iterator[Job]:
    with lived_in(*request.param) as lived:
        job = main_job.begin(lived, INSTALL, first=warm.fill)
        yield job
        tell(f"isolated, {job.line()}")


def test_the_install_proves_a_vm_and_forwards_nothing(installed: Job) -> None:
    host = installed.host
    assert installed.result is not None and installed.result.code == 0
    assert "MASQUERADE" not in host.run("iptables-save").stdout
    assert host.read("/proc/sys/net/ipv4/ip_forward").strip() == "0"
    assert nqr(host, "verify", timeout=400).code == 0


def test_a_vm_reports_and_reaches_nothing_outside(installed: Job) -> None:
    host = installed.host
    installed.vm = product.create_vm(host, "web1")
    product.guest_reaches(host, installed.vm)
    stays_inside(installed)


def stays_inside(installed: Job) -> None:
    with pytest.raises(AssertionError, match="the guest reaches the outside"):
        main_job.reaches_outside(installed.host, installed.vm)


def test_the_same_command_again_changes_nothing(installed: Job) -> None:
    main_job.again_changes_nothing(installed)


def test_a_reboot_brings_all_of_it_back(installed: Job) -> None:
    host = installed.host
    host.reboot()
    main_job.start_services(host)
    eventually("the manager answers", lambda: fetch(host, "http://127.0.0.1:18080/health")[0] == 200, 90)
    eventually("the host is online", lambda: document(host, "host", "ls")["items"][0]["state"] == "online", 90)
    if document(host, "vm", "show", "web1")["state"] != "running":
        nqr(host, "vm", "start", "web1", "--wait", timeout=300)
    product.guest_reaches(host, installed.vm)
    stays_inside(installed)


def test_uninstall_and_purge_leave_nothing(installed: Job) -> None:
    main_job.uninstall_keeps_data(installed)
    main_job.purge_later_leaves_nothing(installed)
