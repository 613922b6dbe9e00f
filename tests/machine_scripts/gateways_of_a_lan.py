"""Runs in namespaces of its own: the gateways on a LAN's bridge that no VM may speak for, by the kind of route.

Run inside: `unshare --net --mount python gateways_of_a_lan.py`. Prints what was found as JSON.
"""

from __future__ import annotations

import json

from packets import sh  # beside this script

from nqrust.agent.network.own_addresses import protected
from nqrust.host.local import LocalHost

HERE = ("192.0.2.2", "2001:db8::2")
ROUTES = {
    "one": "ip route add default via 192.0.2.1 dev br0",
    "several": "ip route add default nexthop via 192.0.2.1 dev br0 nexthop via 192.0.2.3 dev br0",
    "several of IPv6": "ip -6 route add default nexthop via 2001:db8::1 dev br0 nexthop via fe80::3 dev br0",
    "another table": "ip rule add from 192.0.2.2 table 100; ip route add default via 192.0.2.1 dev br0 table 100",
    "another table of IPv6": "ip -6 route add default via fe80::1 dev br0 table 100",
    "another network": "ip route add 10.0.0.0/8 via 192.0.2.9 dev br0",
    "halves": "ip route add 0.0.0.0/1 via 192.0.2.1 dev br0; ip route add 128.0.0.0/1 via 192.0.2.1 dev br0",
    "the other family": "ip route add default via inet6 fe80::1 dev br0",
    "by number": "ip nexthop add id 1 via 192.0.2.7 dev br0; ip nexthop add id 2 via 192.0.2.8 dev br0;"
    "ip nexthop add id 3 group 1/2; sysctl -qw net.ipv4.nexthop_compat_mode=0; ip route add default nhid 3",
    "another card": "ip route add default via 198.51.100.1 dev lan1",
}


def main() -> dict[str, list[str]]:
    sh(
        "mount -t sysfs sysfs /sys; ip link set lo up; ip link add br0 type bridge; ip link add lan0 type veth peer name peer0;"
        "ip link add lan1 type veth peer name peer1; ip link set lan0 master br0;"
        "for l in br0 lan0 peer0 lan1 peer1; do ip link set $l up; done; ip addr add 198.51.100.2/24 dev lan1;"
        f"ip addr add {HERE[0]}/24 dev br0; ip -6 addr flush dev br0; ip -6 addr add {HERE[1]}/64 dev br0 nodad"
    )
    found = {}
    for kind, lines in ROUTES.items():
        sh(lines)
        both = protected(LocalHost(), "br0")
        found[kind] = [one for one in both.v4 + both.v6 if one not in HERE]
        for family in ("-4", "-6"):
            sh(f"for t in main 100; do ip {family} route flush table $t proto boot || :; done; ip nexthop flush 2>/dev/null || :")
    return found


print(json.dumps(main()))
