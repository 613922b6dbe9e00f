"""Whose forwarding it is. Docker drops forwarded packets by default only if it is the one that turns forwarding on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_rendered_files import RELEASE, SECRETS

from nqrust.installer.context import Context, ReleaseFiles
from nqrust.installer.phases import network, services
from nqrust.installer.release.interpreter import Interpreter
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.kernel.forwarding import FORWARDING
from nqrust.installer.verbs.kernel.sysctl import Sysctl, routed


def of(packages: frozenset[str] = frozenset(), *, managers: tuple[str, ...] = (), routed: bool = False) -> Context:
    facts = fit(packages=packages)
    return Context(
        settings=Settings(),
        facts=replace(facts, network=replace(facts.network, firewall_managers=managers)),
        secrets=SECRETS,
        files=ReleaseFiles(RELEASE, "/var/cache/x"),
        python=Interpreter("/usr/bin/python3.11", "3.11.2", "/usr/bin/python3.11"),
        routed=routed,
    )


@pytest.mark.parametrize(("package", "docker"), [("docker.io", True), ("docker-ce", True), ("podman", False)])
def test_docker_is_the_first_to_turn_forwarding_on_at_boot(package: str, docker: bool) -> None:
    context = of(frozenset({package}))
    ids = {step.id for step in network.plan(context).steps}
    assert (f"file:{network.SYSCTL_FILE}" in ids) is not docker
    assert f"sysctl:{FORWARDING}" in ids, "VMs need forwarding, whoever turns it on"
    unit = next(unit for unit in services.our_services(context) if unit.name == services.NETWORK)
    assert ("docker.service" in unit.after) is docker


@pytest.mark.parametrize(
    ("context", "drops"),
    [
        (of(), True),
        (of(managers=("ufw", "firewalld", "nftables")), True),
        (of(frozenset({"docker-ce"})), False),
        *((of(frozenset({package})), False) for package in ("podman", "incus", "incus-base", "lxd", "kubelet")),
        (of(managers=("docker",)), False),
        (of(managers=("libvirt",)), False),
        (of(routed=True), False),
    ],
)
def test_where_forwarding_is_of_others_too_their_packets_pass(context: Context, drops: bool) -> None:
    rules, _ = network.firewall(context)
    assert ("NQR-ROUTED" in {chain.name for chain in rules.chains}) is drops
    assert ("NQR-ROUTED" in network.boot_script(context).partition("jump() {")[0]) is drops


def test_a_run_knows_from_its_records_who_turned_forwarding_on() -> None:
    """So a re-run, a resumed run and an upgrade come to the same."""
    host = FakeHost.debian12()
    for before, was in (("0", False), ("1", True)):
        host.put("/proc/sys/net/ipv4/ip_forward", f"{before}\n")
        assert routed(host, ()) is was
    host.put("/proc/sys/net/ipv4/ip_forward", "0\n")
    undo = Sysctl(FORWARDING, "1").prepare(host).undo
    host.put("/proc/sys/net/ipv4/ip_forward", "1\n")
    assert routed(host, undo) is False
    host.put("/proc/sys/net/ipv4/conf/fcbr0/arp_filter", "0\n")
    assert routed(host, Sysctl("net.ipv4.conf.fcbr0.arp_filter", "1").prepare(host).undo) is True
