"""A virtualisation host: libvirt runs, with its default network virbr0, its dnsmasq and its rules."""

from tests.hosts.bases.model import BaseMachine

SETUP = """
systemctl enable -q libvirtd
systemctl start libvirtd
virsh -q net-autostart default
virsh -q net-start default || virsh -q net-info default | grep -q 'Active: *yes'
"""
NEIGHBOUR = """
virsh -q net-list --all
virsh net-dumpxml default
iptables-save | grep LIBVIRT | sed 's/\\[[0-9:]*\\]//'
cut -d' ' -f1,22 /proc/$(cat /run/libvirt/network/default.pid)/stat
tr '\\0' ' ' </proc/$(cat /run/libvirt/network/default.pid)/cmdline
systemctl is-active libvirtd.socket
ip -o -4 address show dev virbr0 | sed 's,^[0-9]*: ,,'
"""

MACHINE = BaseMachine(
    name="libvirt",
    says="Debian 12 with libvirt and its default network",
    packages=(
        "iproute2", "ca-certificates", "python3", "sudo", "libvirt-daemon-system", "libvirt-clients", "libvirt-daemon-driver-qemu",
        "dnsmasq-base", "iptables", "qemu-system-x86",
    ),
    setup=SETUP,
    ready="virsh -q net-list | grep -q 'default *active' && test -s /run/libvirt/network/default.pid",
    neighbour=NEIGHBOUR,
    meanwhile="systemctl restart libvirtd; virsh -q net-destroy default; virsh -q net-start default",
    inits=("systemd",),
)  # fmt: skip
