"""A host behind firewalld with its nftables backend, which rejects what no zone accepts. SSH listens on port 2222."""

from tests.hosts.bases.model import BaseMachine

SETUP = """
echo 'Port 2222' >/etc/ssh/sshd_config.d/port.conf
systemctl enable -q ssh firewalld
systemctl start firewalld
firewall-cmd -q --permanent --zone=public --change-interface=host0
firewall-cmd -q --permanent --zone=public --remove-service=ssh
firewall-cmd -q --permanent --zone=public --add-port=2222/tcp
firewall-cmd -q --permanent --new-zone=office
firewall-cmd -q --permanent --zone=office --add-source=192.0.2.0/24
"""
NEIGHBOUR = """
firewall-cmd --state
firewall-cmd --get-default-zone
firewall-cmd --zone=public --list-all
firewall-cmd --zone=office --list-all
firewall-cmd --permanent --zone=public --list-all
sha256sum /etc/firewalld/firewalld.conf /etc/firewalld/zones/public.xml /etc/firewalld/zones/office.xml
nft list chain inet firewalld filter_IN_public_allow
systemctl show -p MainPID,ActiveState,UnitFileState firewalld ssh
"""

MACHINE = BaseMachine(
    name="firewalld",
    says="Debian 12 with firewalld (SSH on port 2222)",
    packages=("iproute2", "ca-certificates", "python3", "sudo", "openssh-server", "firewalld", "nftables", "netbase"),
    setup=SETUP,
    ready="firewall-cmd -q --state && systemctl is-active -q ssh",
    neighbour=NEIGHBOUR,
    meanwhile="firewall-cmd -q --reload; systemctl restart firewalld",
    inits=("systemd",),
)
