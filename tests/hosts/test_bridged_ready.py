"""Bridged mode on a bridge that the administrator made: VMs are machines of the LAN, and the bridge stays the administrator's."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.hosts import main_job, product, warm
from tests.hosts.bases.trixie import LAST_BOOT
from tests.hosts.machine import Fingerprint, Machine, Result, Running, TestNetwork
from tests.hosts.machine.outside import outside
from tests.hosts.product import document, eventually, fetch, nqr

pytestmark = pytest.mark.timeout(2400)

INSTALL = ("--mode", "production", "--network-mode", "bridged", "--bridge-name", "br0", "--non-interactive")

NETWORKD = """
set -eu
systemctl mask -q test-host-network.service
cat >/etc/systemd/network/10-br0.netdev <<EOF
[NetDev]
Name=br0
Kind=bridge
EOF
cat >/etc/systemd/network/10-host0.network <<EOF
[Match]
Name=host0
[Network]
Bridge=br0
EOF
cat >/etc/systemd/network/10-br0.network <<EOF
[Match]
Name=br0
[Network]
Address=$ADDRESS/24
Gateway=$GATEWAY
LinkLocalAddressing=ipv6
EOF
systemctl enable -q systemd-networkd
"""
BY_HAND = """
set -eu
ip link add br0 type bridge
ip link set br0 address $(cat /sys/class/net/host0/address) up
ip address flush dev host0
ip link set host0 master br0 up
ip address add $ADDRESS/24 dev br0
ip route replace default via $GATEWAY
"""
SERVER = """
import socketserver
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        said = self.rfile.readline().decode().strip()
        print(said, self.client_address[0], flush=True)
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("", 7000), Handler).serve_forever()
"""
OPEN = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 4).close()
    print("open")
except OSError as error:
    print(error)
"""


@dataclass
class Lan:
    """A host with a bridge to the LAN, and a peer there that serves DHCP. `python`: variables of the first installs."""

    host: Machine
    peer: Machine
    before: Fingerprint
    bridge: str
    server: Running
    dhcp: Running
    python: dict[str, str]
    result: Result | None = None
    vm: dict[str, Any] = field(default_factory=dict)

    def reboot(self) -> None:
        self.host.reboot()
        bridge_is_up(self.host)


def bridge_is_up(host: Machine) -> None:
    if not host.systemd:
        host.run(BY_HAND, env=named(host))
    host.wait_for(f"ip -4 address show dev br0 | grep -q {host.address} && ip route | grep -q '^default.* br0'")


def named(host: Machine) -> dict[str, str]:
    return {"ADDRESS": host.address, "GATEWAY": host.network.gateway}


def bridge_as_it_is(host: Machine) -> str:
    """The bridge with everything that can be configured of it, its lasting ports, and the host's configuration of it."""
    return host.run(
        "cd /sys/class/net/br0; cat address addr_assign_type ifalias mtu;"
        "for f in stp_state forward_delay vlan_filtering nf_call_iptables nf_call_ip6tables nf_call_arptables multicast_snooping"
        " group_fwd_mask; do echo $f $(cat bridge/$f); done;"
        "ls brif | grep -v ^tap; for f in brif/host0/*; do case $f in */learning|*/isolated|*/*flood) echo $f $(cat $f);; esac; done;"
        "ip -o address show dev br0 scope global | sed 's/^[0-9]*: //';"
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/bridge/* 2>/dev/null; cat /etc/systemd/network/* 2>/dev/null || :"
    ).stdout


RUNS = [("bookworm", "systemd"), ("bookworm", "plain"), ("trixie", "systemd"), ("trixie", "plain"), ("bullseye", "systemd")]


@pytest.fixture(
    scope="module", params=[pytest.param(run, id="-".join(run), marks=[pytest.mark.matrix] * (run != RUNS[0])) for run in RUNS]
)
def lan(request: pytest.FixtureRequest, tell: Callable[[str], None]) -> Iterator[Lan]:
    suite, init = request.param
    with (
        TestNetwork() as network,
        Machine(network=network) as peer,
        Machine(suite=suite, network=network, systemd=init == "systemd") as host,
    ):
        if host.systemd:
            host.run(NETWORKD, env=named(host))
            host.reboot()
        bridge_is_up(host)
        product.clone(host)
        python = main_job.newer_python(host)
        peer.run("apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends dnsmasq-base",
                 timeout=300)  # fmt: skip
        span = ",".join(network.address(number) for number in (100, 150))
        dhcp = peer.start(
            ["dnsmasq", "--keep-in-foreground", "--port=0", "--log-dhcp", "--log-facility=-", "--dhcp-authoritative",
             f"--dhcp-range={span},1h", f"--dhcp-option=option:router,{network.gateway}", "--dhcp-leasefile=/run/leases"]
        )  # fmt: skip
        server = peer.start(["python3", "-c", SERVER])
        made = Lan(host, peer, host.fingerprint(), bridge_as_it_is(host), server, dhcp, python)
        warm.fill(host)
        yield made
        tell(f"bridged on a ready bridge ({suite}, {init}): install {made.result.seconds if made.result else 0:.0f} s")
        for running in (server, dhcp):
            running.kill()


def test_the_plan_leaves_the_bridge_alone(lan: Lan) -> None:
    planned = lan.host.run([f"{product.CLONE}/scripts/install/install.sh", *INSTALL, "--dry-run"], timeout=900, env=lan.python)
    assert "add the nftables table bridge nqrust-microvm" in planned.stdout, planned.describe()
    assert "create bridge" not in planned.stdout and "dnsmasq" not in planned.stdout, planned.describe()
    assert "MASQUERADE" not in planned.stdout and "ip_forward" not in planned.stdout
    assert lan.before.diff(lan.host.fingerprint()) == []


def test_a_second_bridge_over_the_first_is_refused(lan: Lan) -> None:
    other = [word.replace("br0", "br7") for word in INSTALL]
    refused = product.bootstrap(lan.host, *other, check=False, env=lan.python)
    assert refused.code == 3 and "NQR-NET-154" in {one.code for one in product.refusal(refused)}, refused.describe()
    assert lan.before.diff(lan.host.fingerprint()) == []


def test_the_install_proves_an_address_of_the_lan(lan: Lan) -> None:
    lan.result = product.bootstrap(lan.host, *INSTALL, env=lan.python)
    assert re.search(r"10\.77\.\d+\.1\d\d, from the network's own DHCP", lan.result.stdout), lan.result.describe()
    assert bridge_as_it_is(lan.host) == lan.bridge
    rules = lan.host.run("iptables-save; nft list ruleset").stdout
    assert "MASQUERADE" not in rules and "table bridge nqrust-microvm" in rules
    assert not lan.host.exists("/etc/nqrust-microvm/dnsmasq.conf")


def test_a_vm_is_a_machine_of_the_lan(lan: Lan) -> None:
    host, peer = lan.host, lan.peer
    lan.vm = product.create_vm(host, "web1", address=f"10.77.{host.network.number}.1")
    leases = peer.read("/run/leases")
    assert f"{lan.vm['mac']} {lan.vm['ip']}" in leases, "its address is the LAN's"
    assert [vm["ip"] for vm in document(host, "vm", "ls")["items"]] == [lan.vm["ip"]]
    reaches_both_ways(lan)


def reaches_both_ways(lan: Lan) -> None:
    eventually("the peer reaches the VM", lambda: opens(lan.peer, lan.vm["ip"], 9000) == "open", 30)
    assert fetch(lan.host, f"http://{lan.vm['ip']}:9000/health")[0] == 200, "and so does its host"
    logged_in(lan)
    product.typed(lan.host, "web1", f"echo I am web1 | nc -w 10 {lan.peer.address} 7000")
    eventually("the VM reaches the peer", lambda: f"I am web1 {lan.vm['ip']}" in lan.server.text(), 30)


def logged_in(lan: Lan) -> None:
    product.typed(lan.host, "web1", "root")


def opens(host: Machine, address: str, port: int) -> str:
    return host.run(["python3", "-c", OPEN, address, str(port)]).stdout.strip()


def answer(lan: Lan, line: str, timeout: float = 20) -> str:
    """What the VM's console shows after a command, up to its end."""
    number = len(console(lan))
    product.typed(lan.host, "web1", f"{line}; echo d''one {number}")
    eventually(line, lambda: f"done {number}" in console(lan), timeout)
    return console(lan)[number:]


def console(lan: Lan) -> str:
    return lan.host.run(["cat", f"/srv/fc/vms/{lan.vm['id']}/console.log"]).stdout


def test_nothing_of_the_host_but_the_relay_is_open_to_a_vm(lan: Lan) -> None:
    """The peer, as any machine of the LAN, reaches the manager. The VM does not, and only VMs reach the relay."""
    host, peer = lan.host, lan.peer
    assert opens(peer, host.address, 18080) == "open"
    assert opens(peer, host.address, 19091) != "open", "the relay is for VMs"
    listener = host.start(["python3", "-c", SERVER.replace("7000", "22")])
    try:
        eventually("SSH's port is open", lambda: opens(peer, host.address, 22) == "open", 20)
        for port in (22, 18080, 19090, 3000):
            assert "reached" not in answer(lan, f"echo x | nc -w 2 {host.address} {port} && echo re''ached {port}"), port
        assert "reached" in answer(lan, f"echo x | nc -w 2 {host.address} 19091 && echo re''ached relay")
    finally:
        listener.kill()


def test_a_vm_with_a_made_up_mac_or_the_hosts_address_is_not_heard(lan: Lan) -> None:
    peer, host = lan.peer, lan.host
    answer(
        lan,
        f"ip address add {host.address}/24 dev eth0; arping -c 2 -U -I eth0 {host.address}; ip address del {host.address}/24 dev eth0",
    )
    known = peer.run(f"ip neigh show {host.address}").stdout
    assert lan.vm["mac"] not in known, "the peer still knows the host by its own MAC"
    before = len(lan.server.text())
    answer(lan, "ip link set eth0 address 02:00:00:00:00:99; echo changed the MAC")
    answer(lan, f"echo spoofed | nc -w 3 {peer.address} 7000; echo tried", 30)
    assert "spoofed" not in lan.server.text()[before:]
    answer(lan, f"ip link set eth0 address {lan.vm['mac']}; echo has its MAC again")
    reaches_both_ways(lan)


def test_the_agent_restores_the_filter_after_a_flush(lan: Lan) -> None:
    lan.host.run("nft flush ruleset")
    eventually("the rules are back", lambda: lan.vm["tap"] in lan.host.run("nft list ruleset").stdout, 60)
    eventually("all of them", lambda: nqr(lan.host, "verify", check=False).code == 0, 200)


def test_the_same_command_again_changes_nothing(lan: Lan) -> None:
    mark = lan.host.mark()
    again = product.bootstrap(lan.host, *INSTALL, timeout=300)
    assert "(0 changed" in again.stdout, again.describe()
    assert product.rewritten(lan.host, mark) == []
    assert document(lan.host, "vm", "show", "web1")["boot_id"] == lan.vm["boot_id"]


def test_a_reboot_brings_all_of_it_back(lan: Lan) -> None:
    lan.reboot()
    main_job.start_services(lan.host)
    eventually("the manager answers", lambda: fetch(lan.host, "http://127.0.0.1:18080/health")[0] == 200, 90)
    eventually("the host is online", lambda: document(lan.host, "host", "ls")["items"][0]["state"] == "online", 90)
    if document(lan.host, "vm", "show", "web1")["state"] != "running":
        nqr(lan.host, "vm", "start", "web1", "--wait", timeout=300)
    eventually("the VM reports", lambda: document(lan.host, "vm", "show", "web1")["ip"] == lan.vm["ip"], 200)
    reaches_both_ways(lan)
    assert nqr(lan.host, "verify", timeout=600).code == 0


def test_uninstall_leaves_the_bridge_as_it_was(lan: Lan) -> None:
    gone = nqr(lan.host, "uninstall", "--purge-data", "--drop-database", "--non-interactive", timeout=900)
    assert "\n".join(lan.before.diff(lan.host.fingerprint(), of_the_last_boot)) == "", gone.describe()
    assert bridge_as_it_is(lan.host) == lan.bridge
    assert "nqrust" not in tables_in_the_kernel(lan.host), "though the host has no program for them any more"
    assert opens(lan.peer, lan.host.address, 19091) != "open"


def of_the_last_boot(category: str, thing: str) -> bool:
    return re.search(LAST_BOOT, f"{category} {thing}") is not None


def tables_in_the_kernel(host: Machine) -> str:
    if shutil.which("nft") is None or host.leader is None:
        pytest.skip("the testing machine has no nft")
    return outside("nsenter", "--target", str(host.leader.pid), "--net", "nft", "list", "tables").stdout.decode()
