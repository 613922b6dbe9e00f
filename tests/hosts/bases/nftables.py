"""A host with nftables alone: its own table in /etc/nftables.conf, which begins with `flush ruleset`. SSH listens on port 2222."""

from tests.hosts.bases.model import BaseMachine

SETUP = """
echo 'Port 2222' >/etc/ssh/sshd_config.d/port.conf
cat >/etc/nftables.conf <<END
#!/usr/sbin/nft -f
flush ruleset
table inet filter {
    chain input {
        type filter hook input priority filter; policy accept;
        iifname "host0" tcp dport { 22, 8081 } counter drop
    }
    chain forward {
        type filter hook forward priority filter; policy accept;
        ip daddr 198.51.100.7 drop
    }
}
END
systemctl enable -q nftables ssh
"""
NEIGHBOUR = """
nft --stateless list table inet filter
sha256sum /etc/nftables.conf
systemctl show -p ActiveState,UnitFileState nftables ssh
"""

MACHINE = BaseMachine(
    name="nftables",
    says="Debian 12 with nftables and without iptables (SSH on port 2222)",
    packages=("iproute2", "ca-certificates", "python3", "sudo", "openssh-server", "nftables"),
    setup=SETUP,
    ready="systemctl is-active -q nftables ssh",
    neighbour=NEIGHBOUR,
    meanwhile="systemctl reload nftables",
    inits=("systemd",),
)
