"""A router for an office: dnsmasq serves DNS on all addresses and DHCP on lan0. systemd-resolved is the host's resolver, and it has
two networks that the default network of VMs overlaps."""

from tests.hosts.bases.model import BaseMachine

SETUP = """
cat >/etc/systemd/network/10-lan0.netdev <<END
[NetDev]
Name=lan0
Kind=bridge
END
cat >/etc/systemd/network/10-lan0.network <<END
[Match]
Name=lan0
[Network]
Address=10.0.0.254/24
ConfigureWithoutCarrier=yes
LinkLocalAddressing=no
END
cat >/etc/systemd/network/20-host0.network <<END
[Match]
Name=host0
[Network]
Address=$ADDRESS/24
Gateway=$GATEWAY
END
printf 'interface=lan0\\nbind-dynamic\\nexcept-interface=lo\\naddress=/office.test/10.0.0.254\\ndhcp-range=10.0.0.10,10.0.0.20\\n' \
  >/etc/dnsmasq.d/lan.conf
sed 's/^nameserver /DNS=/; /^DNS=/!d' /etc/resolv.conf >/tmp/servers
mkdir -p /etc/systemd/resolved.conf.d
(echo '[Resolve]'; cat /tmp/servers) >/etc/systemd/resolved.conf.d/servers.conf
rm /tmp/servers
systemctl enable -q systemd-networkd systemd-resolved dnsmasq
systemctl start systemd-resolved
rm -f /etc/resolv.conf
ln -s /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
"""
NEIGHBOUR = """
systemctl show -p ActiveState,UnitFileState dnsmasq systemd-resolved systemd-networkd
sha256sum /etc/dnsmasq.d/lan.conf /etc/systemd/resolved.conf.d/servers.conf
readlink /etc/resolv.conf
ip -o -4 address show dev lan0 | sed 's,^[0-9]*: ,,'
python3 -c "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)
s.sendto(b'\\x12\\x34\\x01\\x00\\x00\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x06office\\x04test\\x00\\x00\\x01\\x00\\x01', ('10.0.0.254', 53))
print(s.recv(512)[-4:].hex())"
"""

MACHINE = BaseMachine(
    name="dnsmasq",
    says="Debian 12 with its own dnsmasq on 10.0.0.0/24 and systemd-resolved",
    packages=("iproute2", "ca-certificates", "python3", "sudo", "dnsmasq", "systemd-resolved"),
    setup=SETUP,
    ready="systemctl is-active -q dnsmasq systemd-resolved && ip -4 address show dev lan0 | grep -q 10.0.0.254",
    neighbour=NEIGHBOUR,
    meanwhile="systemctl restart dnsmasq systemd-resolved systemd-networkd",
    moves=r"^sysctls .*/lan0/",
    addresses="10.127.0.",
    inits=("systemd",),
)
