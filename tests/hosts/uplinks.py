"""Hosts whose card a network manager configures, static and by DHCP, with all that a card may have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.hosts.machine import Machine

BASE = ("iproute2", "ca-certificates", "python3", "procps", "iputils-ping")
_INIT = ("systemd", "systemd-sysv", "dbus", "iproute2", "ca-certificates", "python3")
NETPLAN = (*_INIT, "netplan.io", "network-manager", "procps", "iputils-ping")
IFUPDOWN = (*_INIT, "ifupdown", "isc-dhcp-client", "procps", "iputils-ping")

_ALONE = """
mkdir -p /etc/systemd/system/test-host-network.service.d
printf '[Service]\\nExecStart=\\nExecStart=/bin/sh -c "echo 0 >/proc/sys/net/ipv4/ip_forward; ip link set lo up"\\n' \
  >/etc/systemd/system/test-host-network.service.d/alone.conf
"""
"""Nothing but the manager gives the card its address."""

_NETWORKD = f"{_ALONE}\nsystemctl disable -q NetworkManager; systemctl enable -q systemd-networkd\n"
_NM = f"""{_ALONE}
systemctl disable -q systemd-networkd; systemctl enable -q NetworkManager
mkdir -p /etc/NetworkManager/conf.d
printf '[device-host0]\\nmatch-device=interface-name:host0\\nmanaged=1\\n' >/etc/NetworkManager/conf.d/host0.conf
"""


@dataclass(frozen=True)
class Case:
    """`manager`: who must be found. `setup`: runs while the host is off, with $ADDRESS, $PEER and $NUMBER of the network.
    `check`: looks for the rest on the bridge, such as name servers. `entrypoint`: without systemd, what brings up the network.
    `client`: the program that renews the lease, empty if it is the manager itself."""

    name: str
    manager: str
    packages: tuple[str, ...]
    setup: str
    dhcp: bool
    check: Callable[[Machine, str], None]
    link_local: bool = True
    """Whether its link-local address stays. NetworkManager makes a stable private one from the link's name."""
    kernel_routes: bool = False
    """Whether the bridge may have routes of the kernel too. NetworkManager lets the kernel read advertisements for some
    milliseconds when the profile has a token for the address."""
    suite: str = "bookworm"
    entrypoint: str = ""
    client: str = ""

    def manages(self, host: Machine, bridge: str) -> bool:
        """Whether the bridge has its profile. NetworkManager only watches a bridge that another program made."""
        if "NetworkManager" not in self.manager:
            return True
        return host.run(f"nmcli -g GENERAL.CONNECTION device show {bridge}").stdout.strip() == f"nqrust-{bridge}"


def _networkd_dns(server: str) -> Callable[[Machine, str], None]:
    def check(host: Machine, bridge: str) -> None:
        assert server in host.run(f"cat /run/systemd/netif/links/$(cat /sys/class/net/{bridge}/ifindex)").stdout

    return check


def _nm_dns(server: str) -> Callable[[Machine, str], None]:
    def check(host: Machine, bridge: str) -> None:
        assert server in host.run(f"nmcli -t -f IP4.DNS device show {bridge}").stdout
        assert server in host.read("/etc/resolv.conf")

    return check


def _resolv(server: str) -> Callable[[Machine, str], None]:
    def check(host: Machine, bridge: str) -> None:
        assert server in host.read("/etc/resolv.conf")

    return check


CASES = (
    Case(
        "networkd-static",
        "systemd-networkd",
        NETPLAN,
        _NETWORKD
        + """
cat >/etc/systemd/network/10-lan.network <<END
[Match]
Name=host0
[Link]
MTUBytes=1400
[Network]
Address=$ADDRESS/24
Address=172.20.9.9/32
Address=fd77:$NUMBER::99/64
DNS=192.0.2.53
Domains=example.org
[Route]
Gateway=$PEER
[Route]
Destination=198.51.100.0/24
Gateway=$PEER
Table=100
[RoutingPolicyRule]
From=172.20.9.9
Table=100
Priority=500
END
mkdir -p /etc/systemd/network/10-lan.network.d
printf '[Network]\\nAddress=172.20.9.10/32\\n' >/etc/systemd/network/10-lan.network.d/more.conf
""",
        False,
        _networkd_dns("192.0.2.53"),
    ),
    Case(
        "networkd-dhcp",
        "systemd-networkd",
        NETPLAN,
        _NETWORKD + "printf '[Match]\\nName=host0\\n[Network]\\nDHCP=yes\\n' >/etc/systemd/network/10-lan.network\n",
        True,
        _networkd_dns("9.9.9.9"),
    ),
    Case(
        "netplan-networkd-static",
        "netplan (systemd-networkd)",
        NETPLAN,
        _NETWORKD
        + """
cat >/etc/netplan/50-cloud-init.yaml <<END
network:
  version: 2
  ethernets:
    host0:
      mtu: 1400
      addresses: [$ADDRESS/32, "fd77:$NUMBER::99/64"]
      routes: [{to: default, via: $PEER, on-link: true}]
      nameservers: {addresses: [192.0.2.53], search: [example.org]}
END
chmod 0600 /etc/netplan/50-cloud-init.yaml
""",
        False,
        _networkd_dns("192.0.2.53"),
    ),
    Case(
        "netplan-networkd-dhcp",
        "netplan (systemd-networkd)",
        NETPLAN,
        _NETWORKD
        + """
printf 'network:\\n  version: 2\\n  ethernets:\\n    host0:\\n      dhcp4: true\\n' >/etc/netplan/50-cloud-init.yaml
chmod 0600 /etc/netplan/50-cloud-init.yaml
""",
        True,
        _networkd_dns("9.9.9.9"),
    ),
    Case(
        "netplan-networkmanager-dhcp",
        "netplan (NetworkManager)",
        NETPLAN,
        _NM
        + """
printf 'network:\\n  version: 2\\n  renderer: NetworkManager\\n  ethernets:\\n    host0:\\n      dhcp4: true\\n' \
  >/etc/netplan/01-nm.yaml
chmod 0600 /etc/netplan/01-nm.yaml
""",
        True,
        _nm_dns("9.9.9.9"),
    ),
    Case(
        "netplan-networkmanager-static",
        "netplan (NetworkManager)",
        NETPLAN,
        _NM
        + """
cat >/etc/netplan/01-nm.yaml <<END
network:
  version: 2
  renderer: NetworkManager
  ethernets:
    host0:
      mtu: 1400
      addresses: [$ADDRESS/24, 172.20.9.9/32]
      routes: [{to: default, via: $PEER}, {to: 198.51.100.0/24, via: $PEER, table: 100}]
      nameservers: {addresses: [192.0.2.53], search: [example.org]}
END
chmod 0600 /etc/netplan/01-nm.yaml
""",
        False,
        _nm_dns("192.0.2.53"),
    ),
    Case(
        "networkmanager-static",
        "NetworkManager",
        NETPLAN,
        _NM
        + """
cat >/etc/NetworkManager/system-connections/office.nmconnection <<END
[connection]
id=office
uuid=27afa607-ee36-43f0-b8c3-9d245cdc4bb3
type=ethernet
interface-name=host0

[ethernet]
mtu=1400

[ipv4]
method=manual
address1=$ADDRESS/24,$PEER
address2=172.20.9.9/32
dns=192.0.2.53;
dns-search=example.org;
route1=198.51.100.0/24,$PEER
route1_options=table=100
routing-rule1=priority 500 from 172.20.9.9 table 100

[ipv6]
method=auto
address1=fd77:$NUMBER::99/64
addr-gen-mode=stable-privacy
END
chmod 0600 /etc/NetworkManager/system-connections/office.nmconnection
""",
        False,
        _nm_dns("192.0.2.53"),
        link_local=False,
        kernel_routes=True,
    ),
    Case(
        "networkmanager-dhcp",
        "NetworkManager",
        NETPLAN,
        _NM
        + """
cat >/etc/NetworkManager/system-connections/lan.nmconnection <<END
[connection]
id=lan
uuid=27afa607-ee36-43f0-b8c3-9d245cdc4bb4
type=ethernet

[ipv4]
method=auto
dhcp-client-id=stable

[ipv6]
method=auto
addr-gen-mode=eui64
END
chmod 0600 /etc/NetworkManager/system-connections/lan.nmconnection
""",
        True,
        _nm_dns("9.9.9.9"),
    ),
    Case(
        "ifupdown-static",
        "ifupdown",
        IFUPDOWN,
        _ALONE
        + """
cat >/etc/network/interfaces <<END
source /etc/network/interfaces.d/*
auto lo
iface lo inet loopback

auto host0
iface host0 inet static
    address $ADDRESS
    netmask 255.255.255.0
    gateway $PEER
    mtu 1400
    up ip route add 198.51.100.0/24 via $PEER dev host0 table 100
    up ip rule add from 172.20.9.9 table 100 priority 500
    down ip rule del from 172.20.9.9 table 100 priority 500

auto host0:0
iface host0:0 inet static
    address 172.20.9.9/32

iface host0 inet6 static
    address fd77:$NUMBER::99/64
    accept_ra 2
    autoconf 1
END
echo 'nameserver 192.0.2.53' >/etc/resolv.conf
""",
        False,
        _resolv("192.0.2.53"),
    ),
    Case(
        "ifupdown-dhcp",
        "ifupdown",
        IFUPDOWN,
        _ALONE
        + """
cat >/etc/network/interfaces <<END
auto lo
iface lo inet loopback

allow-hotplug host0
auto host0
iface host0 inet dhcp
END
""",
        True,
        _resolv("9.9.9.9"),
        client="dhclient",
    ),
)


def _case(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


ELSEWHERE = (
    replace(_case("ifupdown-dhcp"), name="ifupdown-dhcp-debian-11", suite="bullseye"),
    replace(_case("networkd-static"), name="networkd-static-debian-13", suite="trixie"),
    replace(
        _case("ifupdown-static"),
        name="ifupdown-static-without-systemd",
        packages=("ifupdown", "iproute2", "ca-certificates", "python3", "procps", "iputils-ping"),
        entrypoint="ip -4 address flush dev host0; mkdir -p /run/network\n"
        "[ ! -e /var/lib/nqrust-microvm/network-guard/restore ] || sh /var/lib/nqrust-microvm/network-guard/restore start\n"
        "ifup -a\n",
    ),
)
"""On other releases, and without systemd."""

DHCPCD = replace(
    _case("ifupdown-dhcp"),
    name="ifupdown-dhcpcd-debian-13",
    suite="trixie",
    packages=tuple("dhcpcd-base" if name == "isc-dhcp-client" else name for name in IFUPDOWN),
    client="dhcpcd",
)
"""The default of Debian 13. dhcpcd reads a router's advertisements itself, and makes metrics from the number of the link."""
