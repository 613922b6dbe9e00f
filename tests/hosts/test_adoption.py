"""A host in use: the installer adopts and keeps what it finds, or refuses with a cure and changes nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest

from tests.hosts import killing, product, warm
from tests.hosts.machine import Fingerprint, Machine, Result
from tests.hosts.product import nqr

pytestmark = pytest.mark.timeout(1800)

UNITS = ("nqrust-network", "nqrust-dhcp", "nqrust-manager", "nqrust-agent")
MINIMAL = ("--mode", "minimal", "--non-interactive")

PACKAGES = """
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -q --no-install-recommends postgresql dnsmasq screen iptables nftables visidata- >/dev/null
apt-get remove -y -q screen >/dev/null; echo '# of alice' >>/etc/screenrc
"""
ACCOUNTS = """
useradd --create-home --shell /bin/bash alice
useradd --create-home --shell /bin/bash bob
getent group kvm >/dev/null && groupmod --gid 777 kvm || groupadd --gid 777 kvm
gpasswd --add alice kvm
groupadd --gid 1500 nqrust
useradd --uid 1500 --gid nqrust --comment 'NQR ust, a person' --create-home --shell /bin/bash nqrust
echo mine >/home/nqrust/letter; chown nqrust:nqrust /home/nqrust/letter
chown root:kvm /dev/kvm; chmod 0666 /dev/kvm
"""
FILES = """
install -d -m 0755 /srv/images /srv/images/old && echo disk >/srv/images/old/disk.qcow2 && echo list >/srv/images/README
chown -R alice:alice /srv/images/old /srv/images/README
install -d -m 0711 -g alice /srv/fc && echo work >/srv/fc/work && chown alice:alice /srv/fc/work
install -d -m 0750 -g adm /etc/nqrust-microvm && echo notes >/etc/nqrust-microvm/notes.txt
install -d -m 0700 /opt/nqrust-microvm
echo 'alice ALL=(root) NOPASSWD: /usr/bin/true' >/etc/sudoers.d/alice && chmod 0440 /etc/sudoers.d/alice
echo 'alice ALL=(root) NOPASSWD: /usr/bin/id' >/etc/sudoers.d/nqrust && chmod 0440 /etc/sudoers.d/nqrust
echo 'net.ipv4.ip_forward = 1' >/etc/sysctl.d/50-alice.conf; echo 1 >/proc/sys/net/ipv4/ip_forward
printf '# of alice\\nnet.ipv4.tcp_syncookies = 1\\n' >/etc/sysctl.d/90-nqrust-microvm.conf; chmod 0600 /etc/sysctl.d/90-nqrust-microvm.conf
install -d /etc/udev/rules.d && echo 'KERNEL=="kvm", GROUP="kvm", MODE="0666"' >/etc/udev/rules.d/99-kvm.rules
printf '#!/bin/sh\\necho of alice\\n' >/home/alice/nqr && chmod 0755 /home/alice/nqr && ln -s /home/alice/nqr /usr/local/bin/nqr
printf '[Unit]\\nDescription=of alice\\n[Service]\\nExecStart=/bin/sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n' \
  >/etc/systemd/system/nqrust-of-alice.service
systemctl enable -q --now nqrust-of-alice
"""
NETWORK = """
ip link add lan0 type bridge && ip address add 192.168.50.1/24 dev lan0 && ip link set lan0 up
ip link add fcbr0 type bridge && ip link set fcbr0 alias 'of alice' && ip address add 10.0.0.1/24 dev fcbr0
ip link add port0 type veth peer name port1 && ip link set port1 up && ip link set port0 up master fcbr0 && ip link set fcbr0 up
printf 'interface=lan0\\nbind-interfaces\\ndhcp-range=192.168.50.10,192.168.50.20\\n' >/etc/dnsmasq.d/lan.conf
systemctl restart dnsmasq
iptables -N DOCKER-USER && iptables -A DOCKER-USER -j RETURN && iptables -A FORWARD -j DOCKER-USER
iptables -A FORWARD -i docker0 ! -o docker0 -j ACCEPT && iptables -P FORWARD DROP
iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
nft 'table inet alice { chain input { type filter hook input priority 5; policy accept; tcp dport 2222 drop; }; }'
"""
POSTGRES = """
pg_conftool 15 main set port 5433
systemctl restart postgresql@15-main
runuser -u postgres -- psql -qp 5433 -c "create role carol login password 'hers'" -c 'create database accounts owner carol'
runuser -u postgres -- psql -qp 5433 accounts -c 'create table ledger (line text); insert into ledger values ($$forty-two$$); alter table ledger owner to carol'
install -d -o bob /var/tmp/bob
runuser -u bob -- /usr/lib/postgresql/15/bin/initdb -D /var/tmp/bob/data -A trust >/dev/null
runuser -u bob -- /usr/lib/postgresql/15/bin/pg_ctl -D /var/tmp/bob/data -l /var/tmp/bob/log -w -o '-p 5432 -k /var/tmp/bob' start >/dev/null
"""
THEIRS = r"""
systemctl show -p MainPID,ExecMainStartTimestampMonotonic,ActiveState,UnitFileState dnsmasq postgresql@15-main nqrust-of-alice
cut -d' ' -f1,22 /proc/$(head -1 /var/tmp/bob/data/postmaster.pid)/stat
psql -h /var/tmp/bob -U bob -Atc 'select datname from pg_database; select rolname from pg_roles' postgres
runuser -u postgres -- psql -p 5433 -At accounts -c 'select * from ledger' \
  -c "select rolname, rolpassword, rolcanlogin from pg_authid where rolname = 'carol'" -c "select pg_get_userbyid(datdba) from pg_database where datname = 'accounts'"
getent passwd nqrust alice bob; getent group nqrust; getent group kvm | sed 's/\(,\|:\)nqrust$/\1/; s/,$//'
grep ^nqrust: /etc/shadow
ip -o -d link show dev fcbr0 | sed 's/.*alias/alias/'; ip -o -4 address show dev fcbr0; ip -o -4 address show dev lan0
cat /sys/class/net/fcbr0/ifalias /sys/class/net/fcbr0/address
iptables-save | grep '^-A\|^:FORWARD\|^:DOCKER' | grep -v NQR- | sed 's/\[[0-9:]*\]//'
nft list table inet alice
cat /etc/sysctl.d/50-alice.conf /proc/sys/net/ipv4/ip_forward
sha256sum /etc/sudoers.d/alice /etc/sudoers.d/nqrust /etc/dnsmasq.d/lan.conf /etc/udev/rules.d/99-kvm.rules /etc/nqrust-microvm/notes.txt
find /srv/images/old /srv/images/README /srv/fc/work /home -printf '%p %m %u:%g %s %T@\n' | sort
runuser -u alice -- cat /srv/images/old/disk.qcow2 /srv/images/README /srv/fc/work
runuser -u alice -- sudo -n /usr/bin/true && echo alice may
"""
"""What is the users' own: the same before, during and after. Processes by number and start, so that a restart shows."""


@dataclass
class LivedIn:
    host: Machine
    before: Fingerprint
    theirs: str
    installed: list[Result] = field(default_factory=list)


@pytest.fixture(scope="module")
def lived_in() -> Iterator[LivedIn]:
    with Machine() as host:
        product.clone(host)
        host.run(PACKAGES, timeout=600)
        for script in (ACCOUNTS, FILES, NETWORK, POSTGRES):
            host.run(f"set -e\n{script}")
        planned = plan(host)
        assert planned.code == 0, planned.describe()
        yield LivedIn(host, host.fingerprint(), theirs(host))


def theirs(host: Machine) -> str:
    return host.run(THEIRS).stdout


def changed(before: str, now: str) -> list[str]:
    """Lines that came or went."""
    return [line for line in difflib.ndiff(before.splitlines(), now.splitlines()) if line[0] in "+-"]


def plan(host: Machine, *more: str) -> Result:
    return product.bootstrap(host, "--mode", "minimal", *more, check=False, env={"NQR_VERB": "plan"})


# --- what cannot be adopted is refused before anything is touched


class Case(NamedTuple):
    thing: str
    code: str
    says: str
    make: str
    """Shell, with `set -e`."""
    unmake: str
    arguments: tuple[str, ...] = ()
    password: str = ""


SQL = "runuser -u postgres -- psql -qp 5433 -c"
KEEP = "mv {0} {0}.alice; "
FOREIGN_NETWORK = ("--config", "/tmp/network.yaml")
OTHER = "printf 'network: {cidr: 10.9.0.0/24, dhcp_first: 10.9.0.10, dhcp_last: 10.9.0.20, bridge_name: other0}\\n' >/tmp/network.yaml; "

REFUSED = [
    Case("a bridge with another address", "NQR-PRE-028", "172.16.9.1/24",
         "ip address del 10.0.0.1/24 dev fcbr0; ip address add 172.16.9.1/24 dev fcbr0",
         "ip address del 172.16.9.1/24 dev fcbr0; ip address add 10.0.0.1/24 dev fcbr0"),
    Case("an interface that is no bridge", "NQR-PRE-028", "not a bridge",
         OTHER + "ip tuntap add other0 mode tap", "ip link del other0", FOREIGN_NETWORK),
    Case("a bridge without an address", "NQR-NET-103", "no address",
         OTHER + "ip link add other0 type bridge && ip link set other0 up", "ip link del other0", FOREIGN_NETWORK),
    Case("a bridge that is down", "NQR-NET-104", "is down",
         OTHER + "ip link add other0 type bridge && ip address add 10.9.0.1/24 dev other0", "ip link del other0", FOREIGN_NETWORK),
    Case("a bridge with public IPv6", "NQR-NET-106", "2001:db8::1",
         "ip -6 address add 2001:db8::1/64 dev fcbr0", "ip -6 address del 2001:db8::1/64 dev fcbr0"),
    Case("a chain with our name", "NQR-NET-111", "NQR-FORWARD",
         "iptables -N NQR-FORWARD; iptables -A NQR-FORWARD -s 198.51.100.7 -j DROP; iptables -A FORWARD -j NQR-FORWARD",
         "iptables -D FORWARD -j NQR-FORWARD; iptables -F NQR-FORWARD; iptables -X NQR-FORWARD"),
    Case("a role nexus of another", "NQR-DB-103", "role nexus", f'{SQL} "create role nexus login password \'x\'"', f"{SQL} 'drop role nexus'"),
    Case("a database nexus of another", "NQR-DB-104", "carol", f"{SQL} 'create database nexus owner carol'", f"{SQL} 'drop database nexus'"),
    Case("a database nexus with tables of another program", "NQR-DB-108", "letters",
         f"{SQL} \"create role nexus login password 'x'\" -c 'create database nexus owner nexus'; "
         "runuser -u postgres -- psql -qp 5433 nexus -c 'create table letters (line text); alter table letters owner to nexus'",
         f"{SQL} 'drop database nexus' -c 'drop role nexus'", password="x"),
    Case("a unit with the name of our UI", "NQR-PRE-015", "nqrust-ui.service",
         "echo [Unit] >/etc/systemd/system/nqrust-ui.service", "rm /etc/systemd/system/nqrust-ui.service"),
    Case("a packaged unit with our name", "NQR-PRE-015", "nqrust-dhcp.service",
         "echo [Unit] >/lib/systemd/system/nqrust-dhcp.service", "rm /lib/systemd/system/nqrust-dhcp.service"),
    Case("an image folder tiny of another", "NQR-IMG-106", "/srv/images/tiny",
         "mkdir /srv/images/tiny; echo photo >/srv/images/tiny/dog.jpg", "rm -r /srv/images/tiny"),
    Case("an image folder that is somebody's own", "NQR-PRE-033", "alice", "chown alice:alice /srv/images", "chown root:root /srv/images"),
    Case("a folder of VMs that is somebody's own", "NQR-PRE-036", "alice", "chown alice /srv/fc", "chown root /srv/fc"),
    Case("a folder of VMs that their users cannot pass", "NQR-PRE-036", "/srv/fc", "chmod 0700 /srv/fc", "chmod 0711 /srv/fc"),
    Case("an image folder that a group writes to", "NQR-PRE-033", "users", "chown :users /srv/images; chmod 2775 /srv/images",
         "chmod g-s /srv/images; chown :root /srv/images; chmod 0755 /srv/images"),
    Case("a program nqr of another", "NQR-CFG-101", "/usr/local/bin/nqr",
         "mv /usr/local/bin/nqr /usr/local/bin/nqr.alice; cp /home/alice/nqr /usr/local/bin/nqr", "mv /usr/local/bin/nqr.alice /usr/local/bin/nqr"),
    Case("an install folder that is a link", "NQR-CFG-101", "/opt/nqrust-microvm",
         "rmdir /opt/nqrust-microvm; ln -s /srv /opt/nqrust-microvm", "rm /opt/nqrust-microvm; install -d -m 0700 /opt/nqrust-microvm"),
    Case("a user nqrust that is root", "NQR-CFG-110", "uid 0", "sed -i 's/^nqrust:x:1500:/nqrust:x:0:/' /etc/passwd",
         "sed -i 's/^nqrust:x:0:/nqrust:x:1500:/' /etc/passwd"),
    Case("a user nqrust of another group", "NQR-CFG-111", "not in the group", "sed -i 's/^nqrust:x:1500:1500:/nqrust:x:1500:100:/' /etc/passwd",
         "sed -i 's/^nqrust:x:1500:100:/nqrust:x:1500:1500:/' /etc/passwd"),
    Case("a state folder of another program", "NQR-PRE-015", "/var/lib/nqrust-microvm",
         "mkdir /var/lib/nqrust-microvm; echo x >/var/lib/nqrust-microvm/theirs", "rm -r /var/lib/nqrust-microvm"),
    Case("configuration of another installer", "NQR-PRE-015", "manager.env",
         "echo A=1 >/etc/nqrust-microvm/manager.env", "rm /etc/nqrust-microvm/manager.env"),
]  # fmt: skip


RARER = (
    "an interface that is no bridge",
    "a bridge without an address",
    "a bridge that is down",
    "a packaged unit with our name",
    "an image folder that a group writes to",
    "an install folder that is a link",
    "a user nqrust of another group",
)
"""Told apart by the same step or check as another row, so they wait for the long run."""


@contextmanager
def made(host: Machine, case: Case) -> Iterator[None]:
    host.run(f"set -e; {case.make}")
    try:
        yield
    finally:
        host.run(case.unmake)


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.thing, marks=[pytest.mark.matrix] * (case.thing in RARER)) for case in REFUSED]
)
def test_preflight_refuses_conflicts_and_changes_nothing(lived_in: LivedIn, case: Case) -> None:
    host = lived_in.host
    with made(host, case):
        mark, before = host.mark(), theirs(host)
        env = {"DB_PASSWORD": case.password} if case.password else {}
        result = product.bootstrap(host, *MINIMAL, *case.arguments, check=False, env=env, timeout=300)
        assert product.touched(host, mark, ("/var/lib/postgresql/15/main/",)) == []
        assert changed(before, theirs(host)) == []
    found = [one for one in product.refusal(result) if one.code == case.code]
    assert result.code == 3 and found, f"expected 3 {case.code}: {result.describe()}"
    assert any(case.says in one.what for one in found), found
    assert all(len(one.cure) > 10 for one in found), found


TOLD = [
    Case("forwarding that the administrator turned off", "NQR-PRE-034", "99-alice.conf",
         "echo 'net.ipv4.ip_forward=0' >/etc/sysctl.d/99-alice.conf", "rm /etc/sysctl.d/99-alice.conf"),
    Case("PostgreSQL on another port than 5432, which another server holds", "NQR-PRE-026", "5433", "true", "true"),
    Case("a chain of nftables that drops", "NQR-PRE-035", "inet strict forward",
         "nft add table inet strict; nft 'add chain inet strict forward { type filter hook forward priority 0; policy drop; }'",
         "nft delete table inet strict"),
    Case("another DHCP server", "NQR-PRE-013", "dnsmasq", "true", "true"),
]  # fmt: skip


@pytest.mark.parametrize("case", TOLD, ids=[case.thing for case in TOLD])
def test_plan_warns_about_neighbours_that_stay(lived_in: LivedIn, case: Case) -> None:
    with made(lived_in.host, case):
        result = plan(lived_in.host)
    assert result.code == 0, result.describe()
    assert [one for one in product.refusal(result) if one.code == case.code and case.says in one.what], result.describe()


def test_a_cluster_on_another_port_is_found_without_being_named(lived_in: LivedIn) -> None:
    host = lived_in.host
    control = "runuser -u bob -- /usr/lib/postgresql/15/bin/pg_ctl -D /var/tmp/bob/data -l /var/tmp/bob/log -w"
    host.run(f"{control} stop")
    try:
        result = plan(host)
    finally:
        host.run(f"{control} -o '-p 5432 -k /var/tmp/bob' start")
    assert result.code == 0 and "is (or will be) on port 5433" in result.stdout, result.describe()


def test_host_is_unchanged_after_refusals_and_plans(lived_in: LivedIn) -> None:
    assert "\n".join(lived_in.before.diff(lived_in.host.fingerprint())) == ""


# --- what can be adopted is, and left


@pytest.fixture(scope="module")
def installed(lived_in: LivedIn) -> LivedIn:
    warm.fill(lived_in.host)
    lived_in.theirs = theirs(lived_in.host)
    lived_in.installed.append(product.bootstrap(lived_in.host, *MINIMAL))
    return lived_in


def test_install_runs_beside_existing_services(installed: LivedIn) -> None:
    killing.working(installed.host, UNITS)
    assert changed(installed.theirs, theirs(installed.host)) == []


def test_install_puts_its_database_in_the_distribution_cluster(installed: LivedIn) -> None:
    host = installed.host
    assert ":5433/nexus" in host.read("/etc/nqrust-microvm/manager.env")
    listed = host.run("psql -h /var/tmp/bob -U bob -Atc 'select datname from pg_database' postgres").stdout.split()
    assert "nexus" not in listed


@pytest.mark.parametrize("path", ["/etc/sysctl.d/90-nqrust-microvm.conf", "/usr/local/bin/nqr"])
def test_install_reports_each_file_it_replaces(installed: LivedIn, path: str) -> None:
    told = [one for one in product.refusal(installed.installed[0]) if one.code == "NQR-ENG-016"]
    assert any(path in one.what for one in told), installed.installed[0].describe()


def test_a_setting_can_change_and_passwords_stay(installed: LivedIn) -> None:
    host = installed.host
    secrets = host.read("/var/lib/nqrust-microvm/secrets.json")
    nqr(host, "install", "--non-interactive", env={"MANAGER_BIND": "0.0.0.0:18085"}, timeout=600)
    assert host.read("/var/lib/nqrust-microvm/secrets.json") == secrets
    assert changed(installed.theirs, theirs(host)) == []


def test_uninstall_never_reaches_through_a_mount(installed: LivedIn) -> None:
    """An administrator mounted a disk inside a product folder. Uninstall keeps that folder until the disk is unmounted."""
    host = installed.host
    host.run(
        "mkdir /var/tmp/usb /srv/fc/vms/usb && echo photo >/var/tmp/usb/dog.jpg && mount --bind /var/tmp/usb /srv/fc/vms/usb"
    )
    result = nqr(host, "uninstall", *killing.PURGE, timeout=600, check=False)
    assert result.code == 1 and "NQR-ENG-005" in result.stderr and "mounted" in result.stderr, result.describe()
    assert host.read("/var/tmp/usb/dog.jpg") == "photo\n"
    assert not host.exists("/etc/nqrust-microvm/manager.env") and changed(installed.theirs, theirs(host)) == []
    host.run("umount /srv/fc/vms/usb && rm -r /var/tmp/usb")


def test_uninstall_leaves_existing_services_unchanged(installed: LivedIn) -> None:
    host = installed.host
    done = host.run([killing.UNINSTALL, *killing.PURGE], timeout=600)
    assert "\n".join(installed.before.diff(host.fingerprint())) == ""
    assert changed(installed.theirs, theirs(host)) == []
    assert not host.exists("/var/lib/nqrust-microvm")
    assert "This host is back to its state before the install" in done.stdout, done.describe()
