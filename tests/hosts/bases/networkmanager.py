"""A machine on which NetworkManager manages the only network card."""

from tests.hosts.bases.model import BaseMachine

SETUP = """
cat >/etc/NetworkManager/system-connections/host0.nmconnection <<END
[connection]
id=office
type=ethernet
interface-name=host0

[ipv4]
method=manual
address1=$ADDRESS/24,$GATEWAY

[ipv6]
method=ignore
END
chmod 0600 /etc/NetworkManager/system-connections/host0.nmconnection
# Debian's udev rule leaves the card of a container alone; this machine is one only for the tests.
mkdir -p /etc/NetworkManager/conf.d
printf '[device-host0]\\nmatch-device=interface-name:host0\\nmanaged=1\\n' >/etc/NetworkManager/conf.d/host0.conf
systemctl enable -q NetworkManager
# Nor is anything but NetworkManager to give the card its address.
mkdir -p /etc/systemd/system/test-host-network.service.d
printf '[Service]\\nExecStart=\\nExecStart=/bin/sh -c "echo 0 >/proc/sys/net/ipv4/ip_forward; ip link set lo up"\\n' \
  >/etc/systemd/system/test-host-network.service.d/networkmanager.conf
"""
NEIGHBOUR = """
nmcli -t -f NAME,TYPE,DEVICE connection show --active | grep -v '^lo:'
nmcli -t -f DEVICE,STATE device | grep ^host0:
nmcli -t -f NAME connection show | sort
find /etc/NetworkManager -type f ! -name '*nqrust*' -exec sha256sum {} + | sort
systemctl show -p MainPID,ActiveState NetworkManager
ip -o -4 address show dev host0 | sed 's,^[0-9]*: ,,'
ip route show default proto static
"""

MACHINE = BaseMachine(
    name="networkmanager",
    says="Debian 12 with NetworkManager",
    packages=("iproute2", "ca-certificates", "python3", "sudo", "network-manager"),
    setup=SETUP,
    ready="nmcli -t -f DEVICE,STATE device | grep -x 'host0:connected'",
    neighbour=NEIGHBOUR,
    # Its dispatcher and hostnamed start on demand and end when idle.
    moves=r"^files /var/lib/NetworkManager/timestamps$|^units active NetworkManager-wait-online|^sysctls .*/ipv6/conf/lo/"
    r"|^(processes|units active) .*(nm-dispatcher|NetworkManager-dispatcher|systemd-hostnamed)",
    meanwhile="nmcli networking off; nmcli networking on; systemctl restart NetworkManager; nm-online -q -t 30",
    inits=("systemd",),
)
