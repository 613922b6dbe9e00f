"""A server as many run one: ufw with SSH on another port, unattended upgrades, rsyslog, netplan with networkd, and a
pip.conf that pins versions."""

from tests.hosts.bases.model import BaseMachine

SETUP = """
echo 'Port 2222' >/etc/ssh/sshd_config.d/port.conf
ufw allow 2222/tcp >/dev/null
ufw allow from 192.0.2.0/24 to any port 443 proto tcp >/dev/null
ufw --force enable >/dev/null
cat >/etc/netplan/01-host0.yaml <<END
network:
  version: 2
  renderer: networkd
  ethernets:
    host0:
      addresses: [$ADDRESS/24]
      routes: [{to: default, via: $GATEWAY}]
END
chmod 0600 /etc/netplan/01-host0.yaml
# Somebody's own tools need these versions; the options are in [global], which the file has already.
printf 'pydantic==1.10.2\\nfastapi==0.68\\nhttpx==0.20\\n' >/etc/pip-constraints.txt
printf 'constraint = /etc/pip-constraints.txt\\nuser = true\\n' >>/etc/pip.conf
systemctl enable -q systemd-networkd ssh rsyslog unattended-upgrades apt-daily-upgrade.timer
printf 'APT::Periodic::Update-Package-Lists "1";\\nAPT::Periodic::Unattended-Upgrade "1";\\n' >/etc/apt/apt.conf.d/20auto-upgrades
"""
NEIGHBOUR = """
ufw status numbered
iptables-save -t filter | grep '^-A .*ufw\\|^:' | grep -v NQR- | sed 's/\\[[0-9:]*\\]//'
sha256sum /etc/ufw/*.rules /etc/ufw/*.conf /etc/default/ufw /etc/netplan/*.yaml /etc/apt/apt.conf.d/20auto-upgrades
systemctl show -p MainPID,ActiveState,UnitFileState ssh rsyslog unattended-upgrades systemd-networkd ufw
networkctl list host0 --no-legend --no-pager
ip -o -4 address show dev host0 | sed 's,^[0-9]*: ,,'
ip route show default
"""
# As apt-daily.service and unattended-upgrades do in the first minutes after a boot.
BUSY = """
exec python3 -c "
import fcntl, time
held = [open(path, 'w') for path in ('/var/lib/apt/lists/lock', '/var/lib/dpkg/lock-frontend')]
for lock in held: fcntl.lockf(lock, fcntl.LOCK_EX)
time.sleep(15)"
"""

MACHINE = BaseMachine(
    name="server",
    says="Debian 12 with ufw (SSH on port 2222), unattended-upgrades, rsyslog, netplan with networkd, and pinned pip versions",
    packages=(
        "iproute2", "ca-certificates", "python3", "sudo", "openssh-server", "ufw", "unattended-upgrades", "rsyslog", "netplan.io",
        "iptables", "cron", "procps",
    ),
    setup=SETUP,
    ready="ufw status | grep -q 'Status: active' && systemctl is-active -q ssh rsyslog unattended-upgrades && "
    "networkctl list host0 --no-legend | grep -q 'routable.*configured'",
    neighbour=NEIGHBOUR,
    busy=BUSY,
    meanwhile="ufw reload >/dev/null; netplan generate; systemctl restart systemd-networkd rsyslog",
    inits=("systemd",),
    every_run="systemd",
)  # fmt: skip
