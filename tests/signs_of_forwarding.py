"""Rules and settings of a host, and which of them show that others have it forward: for nqr, and for its undo script."""

from __future__ import annotations

LINKS = ("lo", "eth0", "docker0", "virbr1", "wg0", "lxdbr0", "fcbr0")
"""Those of the host. fcbr0 is nqr's."""


def filters(*rules: str) -> str:
    return "\n".join(["*filter", ":INPUT ACCEPT [0:0]", ":FORWARD DROP [7:420]", *rules, "COMMIT", ""])


def translations(*rules: str) -> str:
    return "\n".join(["*nat", ":POSTROUTING ACCEPT [0:0]", *rules, "COMMIT", ""])


def table(name: str, chain: str, *rules: str) -> str:
    lines = (f"\t\t{rule}" for rule in rules)
    return "\n".join([f"table {name} {{", f"\tchain {chain} {{", *lines, "\t}", "}", ""])


HOOK = "type filter hook forward priority filter; policy accept;"

OWN = (
    filters(
        "-A FORWARD -m comment --comment nqrust -j NQR-FORWARD",
        "-A FORWARD -m comment --comment nqrust -j NQR-ROUTED",
        "-A NQR-FORWARD -s 10.0.0.0/24 -i fcbr0 -j ACCEPT",
        "-A NQR-ROUTED ! -i fcbr0 ! -o fcbr0 -j DROP",
    )
    + translations(
        "-A POSTROUTING -m comment --comment nqrust -j NQR-POSTROUTING",
        "-A NQR-POSTROUTING -s 10.0.0.0/24 ! -d 10.0.0.0/24 ! -o fcbr0 -j MASQUERADE",
        "-A NQR-PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.2:80",
    ),
    table("ip filter", "NQR-FORWARD", 'ip saddr 10.0.0.0/24 iifname "fcbr0" counter packets 0 bytes 0 accept')
    + table("ip filter", "FORWARD", HOOK, "counter packets 3 bytes 9 jump NQR-FORWARD")
    + table("ip nat", "NQR-POSTROUTING", "ip saddr 10.0.0.0/24 masquerade"),
)

_DOCKER = "-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE"
_WIREGUARD = "-A FORWARD -i wg0 -j ACCEPT"
_LIBVIRT = "-A LIBVIRT_FWO -s 192.168.100.0/24 -i virbr1 -j ACCEPT"
_ROUTED = "-A ufw-user-forward -i eth0 -o wg0 -j ACCEPT"

RULES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    # name: (iptables-save, nft list ruleset, what shows it)
    "none": ("", "", ()),
    "nqr's own": (*OWN, ()),
    "Docker": (translations(_DOCKER), "", (_DOCKER,)),
    "WireGuard, as its guides have it": (filters(_WIREGUARD), "", (_WIREGUARD,)),
    "a link that is gone": (filters("-A FORWARD -i wg9 -j ACCEPT"), "", ()),
    "OpenVPN, whose links come and go": (filters("-A FORWARD -i tun+ -j ACCEPT"), "", ("-A FORWARD -i tun+ -j ACCEPT",)),
    "a routed network of libvirt": (filters("-A FORWARD -j LIBVIRT_FWO", _LIBVIRT), "", (_LIBVIRT,)),
    "a route of ufw": (
        filters("-A FORWARD -j ufw-before-forward", "-A ufw-before-forward -j ufw-user-forward", _ROUTED),
        "",
        (_ROUTED,),
    ),
    "ufw that forwards nothing": (
        filters(
            "-A FORWARD -j ufw-before-forward",
            "-A INPUT -j ufw-user-input",
            "-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            "-A ufw-before-forward -p icmp -m icmp --icmp-type 8 -j ACCEPT",
            "-A ufw-before-forward -j ufw-user-forward",
            "-A ufw-user-input -i eth0 -p tcp -m tcp --dport 22 -j ACCEPT",
            "-A ufw-user-limit-accept -j ACCEPT",
        ),
        "",
        (),
    ),
    "an administrator who accepts all": (filters("-A FORWARD -j ACCEPT"), "", ("-A FORWARD -j ACCEPT",)),
    "an administrator who drops": (filters("-A FORWARD -i eth0 -j DROP", "-A FORWARD -i eth0 -j LOG"), "", ()),
    "a port that leads on": (
        translations("-A PREROUTING -i eth0 -p tcp -m tcp --dport 80 -j DNAT --to-destination 192.0.2.7"),
        "",
        ("-A PREROUTING -i eth0 -p tcp -m tcp --dport 80 -j DNAT --to-destination 192.0.2.7",),
    ),
    "a port of the host itself": (translations("-A PREROUTING -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 8080"), "", ()),
    "VMs that an administrator accepts": (
        filters("-A FORWARD -i fcbr0 -o eth0 -j ACCEPT"),
        table("inet mine", "forward", HOOK, 'iifname "fcbr0" accept'),
        (),
    ),
    "LXD": (
        "",
        table("inet lxd", "fwd.lxdbr0", HOOK, 'ip version 4 oifname "lxdbr0" accept')
        + table(
            "inet lxd", "pstrt.lxdbr0", "ip saddr 10.5.0.0/24 ip daddr != 10.5.0.0/24 counter packets 5 bytes 420 masquerade"
        ),
        ("ip saddr 10.5.0.0/24 ip daddr != 10.5.0.0/24 masquerade", 'ip version 4 oifname "lxdbr0" accept'),
    ),
    "libvirt with nftables": (
        "",
        table("ip libvirt_network", "forward", HOOK, "counter packets 0 bytes 0 jump guest_output")
        + table("ip libvirt_network", "guest_output", 'ip saddr 192.168.100.0/24 iif "virbr1" counter packets 0 bytes 0 accept'),
        ('ip saddr 192.168.100.0/24 iif "virbr1" accept',),
    ),
    "a router's own rules": (
        "",
        table(
            "inet router",
            "forward",
            HOOK,
            "ct state vmap { established : accept, related : accept }",
            'iifname vmap { "eth0" : accept }',
        )
        + table("ip router", "nat", 'oifname "eth0" snat to 192.0.2.1', "tcp dport 80 dnat to 192.0.2.7"),
        ('oifname "eth0" snat to 192.0.2.1', "tcp dport 80 dnat to 192.0.2.7", 'iifname vmap { "eth0" : accept }'),
    ),
    "firewalld that forwards nothing": (
        "",
        table("inet firewalld", "filter_FORWARD", HOOK, "ct status dnat accept", "jump filter_FWD_public_allow")
        + table("inet firewalld", "filter_FWD_public_allow", 'oifname "eth0" accept'),
        (),
    ),
    "firewalld that hides a network": (
        "",
        table("inet firewalld", "nat_POST_external_allow", 'meta nfproto ipv4 oifname != "lo" masquerade'),
        ('meta nfproto ipv4 oifname != "lo" masquerade',),
    ),
    "a service of the host": ("", table("inet mine", "input", 'iifname "eth0" tcp dport 22 accept'), ()),
    "IPv6 alone": ("", table("ip6 nat", "POSTROUTING", 'oifname "eth0" masquerade'), ()),
}

SETTINGS = (
    # path, content, whether it shows that
    ("/etc/sysctl.d/k8s.conf", "net.ipv4.ip_forward                 = 1\n", True),
    ("/etc/sysctl.conf", "# a router\n-net/ipv4/conf/all/forwarding=1\n", True),
    ("/etc/sysctl.d/99-off.conf", "net.ipv4.ip_forward = 0\n#net.ipv4.ip_forward = 1\n", False),
    ("/etc/sysctl.d/90-nqrust-microvm.conf", "net.ipv4.ip_forward = 1\n", False),
    ("/etc/systemd/network/20-lan.network", "[Network]\nIPMasquerade=ipv4\n", True),
    ("/etc/systemd/networkd.conf", "[Network]\nIPv4Forwarding=yes\n", True),
    ("/etc/systemd/network/20-lan.network", "[Network]\nIPForward=no\nDHCP=yes\n", False),
    ("/usr/lib/systemd/network/80-container-ve.network", "[Network]\nIPMasquerade=both\n", False),
)
